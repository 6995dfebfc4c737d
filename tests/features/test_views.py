"""Views: what they draw, that Keras would show the same, and that no pixel is out of place."""

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dermoscopy.features.views import Warp, draw_warp, render_views
from dermoscopy.runtime.params import Augmentation

AUGMENTATION = Augmentation(views=4, horizontal_flip=True, vertical_flip=True, rotation=0.3, zoom=0.2, seed=1)
DRAWS = 4000


def draw_many(augmentation: Augmentation) -> NDArray[np.float64]:
    """Return flip, flip, angle and zoom, a row each, of view 1 of many images."""
    warps = [draw_warp(augmentation, f"ISIC_{number:07d}", 1) for number in range(DRAWS)]
    return np.array([(w.flip_horizontally, w.flip_vertically, w.angle, w.zoom) for w in warps], float).T


def difference(ours: NDArray[np.uint8], theirs: Any) -> NDArray[np.float64]:
    return np.abs(ours.astype(float) - np.asarray(theirs, float))


def centre_of_mass(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the centre of the light, (x, y), as shares of width and height."""
    light = image[..., 0].astype(float)
    height, width = light.shape
    x = (light.sum(axis=0) * (np.arange(width) + 0.5)).sum() / light.sum() / width
    y = (light.sum(axis=1) * (np.arange(height) + 0.5)).sum() / light.sum() / height
    return np.array([x, y])


@pytest.fixture(scope="module")
def photograph(photographs: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """600 x 450 pixels."""
    return photographs["nv"]


@pytest.fixture(scope="module")
def square(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """64 x 64 pixels."""
    return render_views(photograph, [Warp()], 64)[0]


def test_view_0_is_not_warped() -> None:
    assert draw_warp(AUGMENTATION, "ISIC_0034528", 0) == Warp()


@pytest.mark.parametrize("size", [64, 224, 299, 600])
def test_the_unwarped_view_is_a_plain_resize(keras: Any, photograph: NDArray[np.uint8], size: int) -> None:
    resized = keras.ops.image.resize(photograph.astype(np.float32), (size, size), antialias=True)
    # Pillow rounds after each axis
    assert difference(render_views(photograph, [Warp()], size)[0], resized).max() < 1.6


def test_an_image_of_the_backbone_size_stays_as_it_is(square: NDArray[np.uint8]) -> None:
    assert np.array_equal(render_views(square, [Warp()], 64)[0], square)


def test_a_draw_depends_on_seed_image_and_view_only() -> None:
    draws = {}
    for seed in (1, 2, 3):
        augmentation = AUGMENTATION.model_copy(update={"seed": seed})
        for image_id in ("ISIC_0034528", "ISIC_0034530", ""):
            for view in (1, 2, 100):
                draws[seed, image_id, view] = draw_warp(augmentation, image_id, view)
    assert len({(warp.angle, warp.zoom) for warp in draws.values()}) == len(draws)
    more_views = AUGMENTATION.model_copy(update={"views": 99})
    for image_id, view in (("", 2), ("ISIC_0034530", 100), ("ISIC_0034528", 1)):
        assert draw_warp(more_views, image_id, view) == draws[1, image_id, view]


def test_each_flip_happens_every_other_time_independently() -> None:
    horizontal, vertical, _, _ = draw_many(AUGMENTATION)
    assert abs(horizontal.mean() - 0.5) < 0.03
    assert abs(vertical.mean() - 0.5) < 0.03
    assert abs((horizontal * vertical).mean() - 0.25) < 0.03


def test_rotation_and_zoom_fill_their_ranges_evenly_and_keep_to_them() -> None:
    _, _, angle, zoom = draw_many(AUGMENTATION)
    for share in (angle / (2 * np.pi * 0.3), (zoom - 1) / 0.2):
        assert np.abs(share).max() <= 1
        counts, _ = np.histogram(share, bins=10, range=(-1, 1))
        assert (np.abs(counts / DRAWS - 0.1) < 0.02).all()


def test_the_four_draws_of_a_view_are_independent() -> None:
    assert (np.abs(np.corrcoef(draw_many(AUGMENTATION)) - np.eye(4)) < 0.06).all()


@pytest.mark.parametrize(
    ("number", "off", "neutral"),
    [
        (0, {"horizontal_flip": False}, 0),
        (1, {"vertical_flip": False}, 0),
        (2, {"rotation": 0.0}, 0),
        (3, {"zoom": 0.0}, 1),
    ],
    ids=["horizontal_flip", "vertical_flip", "rotation", "zoom"],
)
def test_switching_one_augmentation_off_leaves_the_others_as_they_were(
    number: int, off: dict[str, Any], neutral: float
) -> None:
    changed, original = draw_many(AUGMENTATION.model_copy(update=off)), draw_many(AUGMENTATION)
    assert (changed[number] == neutral).all()
    assert np.array_equal(np.delete(changed, number, 0), np.delete(original, number, 0))


@pytest.mark.parametrize("factor", [-0.5, -0.3, -0.25, -0.07, 0.07, 0.25, 0.3, 0.5])
def test_a_turn_is_that_of_random_rotation(keras: Any, square: NDArray[np.uint8], factor: float) -> None:
    theirs = keras.layers.RandomRotation((factor, factor))(square[None].astype(np.float32), training=True)
    ours = render_views(square, [Warp(angle=2 * np.pi * factor)], 64)
    assert difference(ours, theirs).max() <= 1


@pytest.mark.parametrize("factor", [-0.9, -0.2, 0.2, 0.9])
def test_a_zoom_is_that_of_random_zoom(keras: Any, square: NDArray[np.uint8], factor: float) -> None:
    theirs = keras.layers.RandomZoom((factor, factor))(square[None].astype(np.float32), training=True)
    ours = render_views(square, [Warp(zoom=1 + factor)], 64)
    assert difference(ours, theirs).max() <= 1


def test_flips_mirror_the_axes_they_are_named_after(square: NDArray[np.uint8]) -> None:
    horizontally, vertically = render_views(square, [Warp(flip_horizontally=True), Warp(flip_vertically=True)], 64)
    assert np.array_equal(horizontally, square[:, ::-1])
    assert np.array_equal(vertically, square[::-1])


@pytest.mark.parametrize("mirror", [Warp(flip_horizontally=True), Warp(flip_vertically=True)], ids=str)
def test_the_order_is_flip_then_turn_then_zoom(keras: Any, square: NDArray[np.uint8], mirror: Warp) -> None:
    flipped = square[:, ::-1] if mirror.flip_horizontally else square[::-1]
    turned = keras.layers.RandomRotation((0.13, 0.13))(flipped[None].astype(np.float32), training=True)
    theirs = keras.layers.RandomZoom((-0.4, -0.4))(turned, training=True)
    warp = Warp(mirror.flip_horizontally, mirror.flip_vertically, 2 * np.pi * 0.13, 0.6)
    # they resample twice and we do once, so theirs is a little smoother
    assert difference(render_views(square, [warp], 64), theirs).mean() < 1.5


def test_what_lies_beyond_the_edge_is_the_reflection(square: NDArray[np.uint8]) -> None:
    mirrored = np.pad(square.astype(float), ((32, 32), (32, 32), (0, 0)), mode="symmetric")
    halved = mirrored.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert difference(render_views(square, [Warp(zoom=2)], 64)[0], halved).max() <= 1


def test_a_zoom_above_1_shows_more() -> None:
    lesion = np.zeros((64, 64, 3), np.uint8)
    lesion[24:40, 24:40] = 255
    smaller, larger = render_views(lesion, [Warp(zoom=1.6), Warp(zoom=0.8)], 64)
    assert abs((smaller[..., 0] / 255).sum() - (16 / 1.6) ** 2) < 1
    assert abs((larger[..., 0] / 255).sum() - (16 / 0.8) ** 2) < 1


@pytest.mark.parametrize("size", [75, 224])
def test_a_turn_is_made_on_the_square_not_on_the_oblong_image(photograph: NDArray[np.uint8], size: int) -> None:
    upright, turned = render_views(photograph, [Warp(), Warp(angle=np.pi / 2)], size)
    assert difference(turned, np.rot90(upright)).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(600, 450), (450, 600), (97, 31), (1024, 768), (20, 10)])
@pytest.mark.parametrize("size", [32, 100])
def test_a_slope_over_an_oblong_image_is_the_same_slope_over_the_view(width: int, height: int, size: int) -> None:
    # at the centre of a pixel, red is its share of the width and green that of the height
    slope = np.zeros((height, width, 3), np.uint8)
    slope[..., 0] = np.round(255 * (np.arange(width) + 0.5) / width)
    slope[..., 1] = np.round(255 * (np.arange(height) + 0.5) / height)[:, None]
    view = render_views(slope, [Warp()], size)[0]
    expected = 255 * (np.arange(size) + 0.5) / size
    inner = slice(2, -2) if min(width, height) >= size else slice(size // 5, -size // 5)  # away from the reflection
    assert difference(view[:, inner, 0], expected[inner]).max() <= 1.5
    assert difference(view[inner, :, 1].T, expected[inner]).max() <= 1.5


@pytest.mark.parametrize("size", [32, 64, 100, 224, 299])
@pytest.mark.parametrize("place", [(180, 150), (520, 300), (351, 250)])
def test_making_an_image_smaller_does_not_shift_it(size: int, place: tuple[int, int]) -> None:
    spot = np.zeros((501, 701, 3), np.uint8)
    cv2.circle(spot, place, 90, (255, 255, 255), thickness=-1, lineType=cv2.LINE_AA)
    view = render_views(spot, [Warp()], size)[0]
    shift_in_pixels_of_the_view = size * np.abs(centre_of_mass(view) - centre_of_mass(spot))
    assert (shift_in_pixels_of_the_view < 0.05).all()


def test_making_an_image_smaller_skips_no_pixel() -> None:
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 200
    # at the edge half of the filter is outside
    assert np.abs(render_views(stripes, [Warp()], 64)[0].astype(int) - 100).max() <= 3


def test_views_do_not_depend_on_each_other(photograph: NDArray[np.uint8]) -> None:
    warps = [draw_warp(AUGMENTATION, "ISIC_0034528", view) for view in range(5)]
    together = render_views(photograph, warps, 96)
    assert together.shape == (5, 96, 96, 3)
    for view, warp in reversed(list(zip(together, warps, strict=True))):
        assert np.array_equal(render_views(photograph, [warp], 96)[0], view)


def test_the_image_is_left_as_it_was(photograph: NDArray[np.uint8]) -> None:
    before = photograph.copy()
    render_views(photograph, [draw_warp(AUGMENTATION, "ISIC_0034528", 1)], 224)
    assert np.array_equal(photograph, before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_the_thinnest_image_has_views(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    assert (render_views(image, [Warp(), Warp(angle=1, zoom=1.9)], 32) == 77).all()
