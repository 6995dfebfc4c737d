"""Draws dermoscopy-like images of the seven HAM10000 diagnoses.

Melanin, blood and keratin absorb the light that the skin sends back (Beer-Lambert law); deep melanin, seen blue-grey,
and white scar or scale cover it. What tells the diagnoses apart is where each of these lies, and that is drawn from
the dermoscopic criteria (dermoscopedia.org).
"""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.random import Generator
from numpy.typing import NDArray

WIDTH, HEIGHT = 600, 450
CANVAS = 1.4  # half the side of the square that a lesion is painted on, in lesion radii

# Rows are RGB; columns are the absorbance of one unit of melanin, blood and keratin, and the colours that cover.
ABSORBANCE = np.array([[0.55, 0.14, 0.06], [1.00, 1.00, 0.30], [1.30, 0.72, 0.95]], np.float32)
BLUE_GREY_AND_WHITE = np.array([[0.36, 0.95], [0.40, 0.90], [0.50, 0.87]], np.float32)

Field = MatLike
Filter = tuple[Field, Field]


def draw_lesion(dx: str, seed: int, number: int, images: int) -> list[MatLike]:
    """Return `images` photographs, (HEIGHT, WIDTH, 3) uint8 RGB, of lesion `number` (from 1) of diagnosis `dx`."""
    rng = np.random.default_rng([seed, number])
    paint, radius = PAINTERS[dx]
    lesion = paint(rng, int(2 * CANVAS * np.clip(radius * rng.lognormal(0, 0.3), 50, 190)))
    skin_tone = rng.gamma(2, 0.05), rng.uniform(0.1, 0.4)
    hairs = rng.poisson(10) if rng.random() < 0.4 else 0
    # Images count from 1 too: a seed list with a zero at its end is to NumPy the same as one without.
    rngs = [np.random.default_rng([seed, number, image]) for image in range(1, images + 1)]
    return [photograph(rng, lesion, skin_tone, hairs) for rng in rngs]


def photograph(rng: Generator, lesion: Filter, skin_tone: tuple[float, float], hairs: int) -> MatLike:
    """Return one image, (HEIGHT, WIDTH, 3) uint8 RGB, of a lesion under its own rotation, zoom, offset and light."""
    gain, offset = lesion
    centre = len(gain) / 2
    pose = cv2.getRotationMatrix2D((centre, centre), rng.uniform(0, 360), rng.lognormal(0, 0.12))
    pose[:, 2] = pose[:, 2] + rng.normal((WIDTH / 2 - centre, HEIGHT / 2 - centre), (35, 20))
    image: Field = draw_skin(rng, *skin_tone) * cv2.warpAffine(gain, pose, (WIDTH, HEIGHT), borderValue=(1, 1, 1))
    image = image + cv2.warpAffine(offset, pose, (WIDTH, HEIGHT))
    if hairs:
        image = cover(image, draw_hairs(rng, hairs), rng.uniform(0.05, 0.3) * np.array([1, 0.75, 0.6]))
    if rng.random() < 0.15:
        image = cover(image, draw_bubbles(rng), np.array([0.97, 0.95, 0.97]))
    return cv2.convertScaleAbs(image * draw_light(rng), alpha=255)


def draw_skin(rng: Generator, melanin: float, blood: float) -> Field:
    """Return bare skin, (HEIGHT, WIDTH, 3) float32 in 0..1, with blotches, freckles, fine vessels and grain."""
    shape = HEIGHT // 2, WIDTH // 2  # as fine as skin is, and four times as fast
    grain = 0.02 * noise(rng, shape, 2, 2)
    freckles = step(noise(rng, shape, 20, 3), 0.8, 3) * max(rng.uniform(-0.4, 0.4), 0)
    veins = lines(noise(rng, shape, 35, 3), 0.08) * max(rng.uniform(-0.15, 0.15), 0)
    brown = melanin * (1 + 0.35 * noise(rng, shape, 75, 4)) + freckles + grain
    red = blood * (1 + 0.12 * noise(rng, shape, 50, 4)) + veins + grain
    skin = 0.98 * cv2.exp(-cv2.transform(cv2.merge([brown, red]), ABSORBANCE[:, :2]))
    return cv2.resize(skin, (WIDTH, HEIGHT))


def draw_light(rng: Generator) -> Field:
    """Return the light of one photograph, (HEIGHT, WIDTH, 3) float32: exposure, white balance, fall-off, lens tube."""
    size = WIDTH, HEIGHT
    x, y = (np.linspace(-n / WIDTH, n / WIDTH, n // 2, dtype=np.float32) + rng.normal(0, 0.04) for n in size)
    distance = np.hypot(x, y[:, None])
    field = 1 - rng.uniform(0.03, 0.25) * distance**2
    if rng.random() < 0.2:
        tube = rng.uniform(0.93, 1.12)
        field *= 1 - step(distance, tube - 0.03, tube + 0.03)
    balance = rng.uniform(0.9, 1.1) * rng.lognormal(0, (0.04, 0.05, 0.07))
    return cv2.resize(cv2.merge([field * float(gain) for gain in balance]), size)


def draw_hairs(rng: Generator, count: int) -> Field:
    """Return where hairs lie, (HEIGHT, WIDTH) float32 in 0..1."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    direction = rng.uniform(0, 2 * np.pi)
    for start in rng.uniform((0, 0), (WIDTH, HEIGHT), (count, 2)):
        hair = curve(rng, start, direction + rng.normal(0, 0.5), int(rng.integers(8, 30)), 14, 0.03)
        cv2.polylines(mask, [hair], False, int(rng.integers(140, 255)), int(rng.integers(1, 3)), cv2.LINE_AA)
    return mask / np.float32(255)


def draw_bubbles(rng: Generator) -> Field:
    """Return the bright rims of gel bubbles, (HEIGHT, WIDTH) float32 in 0..1."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for centre in rng.integers((0, 0), (WIDTH, HEIGHT), (rng.integers(2, 9), 2)):
        cv2.circle(mask, centre.tolist(), int(rng.integers(4, 15)), 150, 2, cv2.LINE_AA)
    return mask / np.float32(255)


def cover(image: Field, mask: Field, colour: NDArray[np.float64]) -> Field:
    """Return the image with `colour`, RGB in 0..1, laid over it by the (HEIGHT, WIDTH) mask, 0..1."""
    return image * cv2.merge([1 - mask] * 3) + cv2.merge([mask * float(part) for part in colour])


def curve(
    rng: Generator, start: NDArray[np.float64], angle: float, steps: int, length: float, bend: float
) -> NDArray[np.int32]:
    """Return a wandering line that sets out at an angle (radians), as points x, y: (steps, 2)."""
    angles = angle + np.cumsum(rng.normal(0, bend) + rng.normal(0, 2 * bend, steps))
    return (start + length * np.cumsum([np.cos(angles), np.sin(angles)], axis=1).T).astype(np.int32)


def noise(rng: Generator, shape: tuple[int, int], cell: float, octaves: int) -> Field:
    """Return a smooth random field of about unit variance, with blobs of `cell` pixels and, by octave, half of that."""
    field: Field = np.zeros((1, 1), np.float32)
    for octave in range(octaves):
        height, width = (int(n * 2**octave / cell) + 2 for n in shape)
        finer = 1.1 * 0.6**octave * rng.standard_normal((height, width), np.float32)
        field = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) + finer
    return cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC)


def step(values: Field, low: float, high: float) -> Field:
    """Return 0 below low, 1 above high, and a smooth rise between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def lines(values: Field, width: float) -> Field:
    """Return 1 along the lines where a field crosses zero, falling to 0 beside them."""
    return np.exp(-np.square(values / width))


def cells(rng: Generator, side: int, spacing: float, keep: float = 1) -> Field:
    """Return the distance to the nearest of many scattered points, in units of their spacing: (side, side).

    The points are a jittered hexagonal grid, of which a share `keep` stays. Small values are dots; large ones are the
    walls of a honeycomb.
    """
    n = int(side / spacing) + 2
    points = np.mgrid[:n, :n] + rng.uniform(-0.25, 0.25, (2, n, n))
    points[1] += np.arange(n)[:, None] % 2 / 2
    kept = (points[:, rng.random((n, n)) < keep] * spacing).astype(int)
    y, x = kept[:, ((kept >= 0) & (kept < side)).all(axis=0)]
    free = np.full((side, side), 255, np.uint8)
    free[y, x] = 0
    return cv2.distanceTransform(free, cv2.DIST_L2, 5) / np.float32(spacing)


def rays(rng: Generator, side: int) -> Field:
    """Return noise stretched along the radius, about unit variance: (side, side)."""
    polar = noise(rng, (256, 16), 4, 1)
    # Without WARP_FILL_OUTLIERS, points that OpenCV finds outside `polar` would hold whatever was in memory before.
    flags = cv2.WARP_INVERSE_MAP | cv2.WARP_FILL_OUTLIERS | cv2.INTER_LINEAR
    return cv2.warpPolar(polar, (side, side), (side / 2, side / 2), side, flags)


def vessels(rng: Generator, side: int, trunks: int) -> Field:
    """Return vessels that branch and thin out on their way inwards from the border: (side, side) float32 in 0..1."""
    mask = np.zeros((side, side), np.uint8)
    angles = rng.uniform(0, 2 * np.pi, trunks)
    growing = [(side / 2 + side / 3 * np.array([np.cos(a), np.sin(a)]), a + np.pi, 3) for a in angles]
    while growing:
        start, angle, thickness = growing.pop()
        angle += rng.normal(0, 0.6)
        vessel = curve(rng, start, angle, int(rng.integers(5, 12)), 9, 0.12)
        cv2.polylines(mask, [vessel], False, 90 + 40 * thickness, thickness, cv2.LINE_AA)
        if thickness > 1:
            growing += [(point, angle, thickness - 1) for point in rng.choice(vessel, 3)]
    return cv2.GaussianBlur(mask, (3, 3), 0) / np.float32(255)


def depth_map(rng: Generator, side: int, irregularity: float) -> Field:
    """Return how deep inside the lesion each point lies: 1 at its centre, 0 on its border, below 0 outside."""
    x = np.linspace(-CANVAS, CANVAS, side, dtype=np.float32)
    stretch = rng.uniform(0.85, 1.18)
    distance = np.hypot(x * stretch, x[:, None] / stretch)
    return 1 - distance + irregularity * noise(rng, (side, side), side / 3, 4) - 3 * np.maximum(distance - 1, 0)


def tint(melanin: Field, blood: Field, keratin: Field, blue_grey: Field, white: Field) -> Filter:
    """Return gain and offset, (side, side, 3) float32 in 0..1: skin * gain + offset is the skin with the lesion.

    The first three are amounts >= 0, the last two the share covered, 0..1: (side, side) float32.
    """
    absorbance = cv2.transform(cv2.merge([melanin, blood, keratin]), ABSORBANCE)
    gain = cv2.exp(-absorbance) * cv2.merge([(1 - blue_grey) * (1 - white)] * 3)
    return gain, cv2.transform(cv2.merge([blue_grey * (1 - white), white]), BLUE_GREY_AND_WHITE)


def paint_melanocytic(rng: Generator, side: int, atypia: float) -> Filter:
    """Nevus (low atypia) to melanoma (high): from symmetric and brown to many colours, streaks, veil, regression."""
    shape = side, side
    depth = depth_map(rng, side, 0.04 + 0.16 * atypia) + 0.07 * atypia * rays(rng, side)
    body = step(depth, -0.02, rng.uniform(0.1, 0.5) * (1.2 - atypia))
    brown = 0.8 + rng.uniform(-0.2, 0.5) * depth + 0.12 * noise(rng, shape, 40, 3)
    pattern = rng.random()
    ragged = 0.12 * atypia * noise(rng, shape, 30, 2)
    if pattern < 0.5:
        brown *= 1 + rng.uniform(0.3, 1) * (step(cells(rng, side, rng.uniform(9, 15)) + ragged, 0.32, 0.6) - 0.3)
    elif pattern < 0.75:
        brown += rng.uniform(0.3, 0.7) * (1 - step(cells(rng, side, rng.uniform(12, 20), 0.8) + ragged, 0.15, 0.4))
    uneven, veil, regression, redness = (atypia * noise(rng, shape, side / 2.5, 4) for _ in range(4))
    dots = (1 - step(cells(rng, side, 14, 0.3) + ragged, 0.1, 0.35)) * step(uneven, 0, 0.5)
    brown = brown * np.maximum(1 + 0.8 * uneven, 0.3) * rng.uniform(0.4, 1.2) + 1.2 * dots
    brown += 2 * step(uneven, 0.5, 1.5)
    inside = step(depth, 0, 0.4)
    return tint(
        melanin=body * np.maximum(brown, 0),
        blood=body * (rng.uniform(0.05, 0.5) + 0.6 * step(redness, 0.4, 1.6)),
        keratin=body * rng.uniform(0, 0.3),
        blue_grey=inside * 0.6 * step(veil, 0.4, 1.6),
        white=inside * 0.45 * step(regression, 0.6, 1.6),
    )


def paint_bkl(rng: Generator, side: int) -> Filter:
    """Seborrhoeic keratosis: stuck-on, sharp border, fissures, white milia-like cysts, dark comedo-like openings."""
    shape = side, side
    depth = depth_map(rng, side, 0.1)
    body = step(depth, 0, 0.07)
    fissures = lines(noise(rng, shape, rng.uniform(22, 40), 1), 0.25) * rng.uniform(0, 1)
    ragged = 0.07 * noise(rng, shape, 18, 2)
    cysts = 1 - step(cells(rng, side, 26, rng.uniform(0.1, 0.6)) + ragged, 0.05, 0.2)
    openings = 1 - step(cells(rng, side, 34, rng.uniform(0.05, 0.4)) + ragged, 0.08, 0.22)
    mottle = 1 + 0.3 * noise(rng, shape, 60, 4)
    return tint(
        melanin=body * np.maximum(rng.uniform(0.1, 0.8) * mottle + 0.6 * fissures + 1.8 * openings, 0),
        blood=body * rng.uniform(0, 0.4),
        keratin=body * rng.uniform(0.3, 1.1) * np.maximum(mottle, 0),
        blue_grey=body * max(rng.uniform(-0.3, 0.4), 0) * (1 - openings),
        white=body * np.maximum(0.75 * cysts, 0.12 * step(noise(rng, shape, 12, 2), 0.5, 1.5)),
    )


def paint_bcc(rng: Generator, side: int) -> Filter:
    """Basal cell carcinoma: translucent pink, arborizing vessels, blue-grey ovoid nests, ulcer, shiny white."""
    shape = side, side
    depth = depth_map(rng, side, 0.12)
    body = step(depth, -0.05, 0.35)
    wobble = 0.1 * noise(rng, shape, 25, 3)
    nests = 1 - step(cells(rng, side, rng.uniform(30, 48), rng.uniform(0.1, 0.7)) + wobble, 0.1, 0.5)
    specks = 1 - step(cells(rng, side, 16, 0.1), 0.1, 0.3)
    ulcer = step(depth + 0.25 * noise(rng, shape, side / 5, 3), 0.85, 1) * max(rng.uniform(-1, 1), 0)
    tree = vessels(rng, side, int(rng.integers(2, 6))) * step(depth, -0.2, 0.05)
    shiny = 0.1 + 0.45 * step(noise(rng, shape, 50, 4), 0.8, 1.8)
    return tint(
        melanin=body * (0.1 + 0.5 * nests + 0.8 * specks + 0.9 * ulcer),
        blood=body * (rng.uniform(0.15, 0.45) + 1.2 * ulcer) + 0.9 * tree,
        keratin=body * (0.1 + 0.6 * ulcer),
        blue_grey=body * nests * rng.uniform(0.45, 0.8) * (1 - 0.5 * tree),
        white=body * shiny * (1 - nests) * (1 - 0.8 * tree),
    )


def paint_akiec(rng: Generator, side: int) -> Filter:
    """Actinic keratosis: ill-defined, a red network around pale follicle openings (strawberry), white-yellow scale."""
    shape = side, side
    depth = depth_map(rng, side, 0.15)
    body = step(depth, -0.15, 0.8)
    follicles = cells(rng, side, rng.uniform(14, 22))
    openings = rng.uniform(0.4, 1) * (1 - step(follicles, 0.12, 0.36))
    plugs = 1 - step(follicles, 0.02, 0.12)
    scale = step(noise(rng, shape, 70, 3) + 0.7 * noise(rng, shape, 8, 2), 1.0, 2.2) * step(depth, 0, 0.4)
    brown = step(noise(rng, shape, side / 3, 4), 0, 1.5) * rng.uniform(0, 0.7)
    red = rng.uniform(0.25, 0.7) * np.maximum(1 + 0.3 * noise(rng, shape, 40, 4), 0)
    return tint(
        melanin=body * (0.08 + brown) * (1 - 0.8 * openings),
        blood=body * red * (1 - 0.8 * openings),
        keratin=body * (0.2 + 0.4 * plugs) + 0.5 * scale,
        blue_grey=np.zeros_like(depth),
        white=np.maximum(body * 0.35 * openings, 0.75 * scale),
    )


def paint_df(rng: Generator, side: int) -> Filter:
    """Dermatofibroma: a white scar-like centre with radiating strands in a delicate brown network that fades out."""
    shape = side, side
    depth = depth_map(rng, side, 0.05)
    body = step(depth, -0.25, 0.6)
    scar = step(depth + 0.06 * rays(rng, side) + 0.06 * noise(rng, shape, 16, 3), rng.uniform(0.1, 0.45), 0.95)
    network = step(cells(rng, side, rng.uniform(9, 14)), 0.3, 0.6)
    return tint(
        melanin=body * rng.uniform(0.3, 0.9) * (0.6 + 0.7 * network) * (1 - 0.8 * scar),
        blood=body * rng.uniform(0.1, 0.6),
        keratin=body * rng.uniform(0, 0.3),
        blue_grey=body * rng.uniform(0, 0.15),
        white=scar * rng.uniform(0.45, 0.85),
    )


def paint_vasc(rng: Generator, side: int) -> Filter:
    """Angioma or angiokeratoma: sharply bordered red, purple or blue-black lacunae between paler septa."""
    shape = side, side
    depth = depth_map(rng, side, 0.08)
    distance = cells(rng, side, rng.uniform(18, 36)) + 0.08 * noise(rng, shape, 20, 3)
    wall = rng.uniform(0.4, 0.6)
    lacunae = (1 - step(distance, wall - 0.1, wall + 0.1)) * step(depth, -0.05, 0.05)
    body = np.maximum(step(depth, 0, 0.1), lacunae)
    blue = max(rng.uniform(-0.5, 0.9), 0)
    return tint(
        melanin=lacunae * blue * rng.uniform(0, 3),
        blood=0.3 * step(depth, -0.3, 0.1) + body * rng.uniform(0.4, 0.9) + lacunae * rng.uniform(0.5, 1.2),
        keratin=np.zeros_like(depth),
        blue_grey=(0.2 * body + 0.35 * lacunae) * blue,
        white=(body - lacunae) * rng.uniform(0, 0.35),
    )


# With the usual radius in pixels. An odd nevus is atypical enough to pass for a melanoma, and the other way round.
PAINTERS = {
    "akiec": (paint_akiec, 140),
    "bcc": (paint_bcc, 125),
    "bkl": (paint_bkl, 120),
    "df": (paint_df, 100),
    "mel": (lambda rng, side: paint_melanocytic(rng, side, atypia=rng.beta(6, 2)), 130),
    "nv": (lambda rng, side: paint_melanocytic(rng, side, atypia=rng.beta(1.2, 7)), 120),
    "vasc": (paint_vasc, 85),
}
