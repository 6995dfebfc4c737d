"""Write report/index.html, one page with all results, and the model card."""

import sys

from dermoscopy.data.images import configure_image_libraries
from dermoscopy.page.contents import read_contents
from dermoscopy.page.model_card import describe_card
from dermoscopy.page.rendering import render
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.params import Params
from dermoscopy.runtime.paths import MODEL_CARD, PAGE


def main(params: Params) -> None:
    configure_image_libraries()
    contents = read_contents(params)
    card = render("model_card.md.jinja", **contents, **describe_card(contents))
    pages = {PAGE: render("index.html.jinja", **contents), MODEL_CARD: card}
    for path, text in pages.items():
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    if contents["left_out"]:
        print(f"warning: report: {contents['left_out']}", file=sys.stderr)
    print(f"report: {PAGE} ({PAGE.stat().st_size / 1e6:.1f} MB, {len(contents['examples'])} images), {MODEL_CARD}")


if __name__ == "__main__":
    run_stage(main)
