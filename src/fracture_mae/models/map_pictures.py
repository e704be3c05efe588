"""X-rays under their maps, as pictures: for pages, and for whoever asks a server."""

import cv2
import numpy as np

_GREEN, _SKY = (0, 158, 115), (86, 180, 233)  # of Okabe and Ito, which colour-blind readers can tell apart
_SHADE = 0.55  # of the map
_COOLEST = 0.05  # quantile from which on a map is drawn darkest


def under_map(
    pictures: np.ndarray, heat: np.ndarray, boxes: np.ndarray | None = None, side: int = 224
) -> tuple[np.ndarray, np.ndarray]:
    """X-rays as red, green and blue, plain and under their maps, which have one scale and a cross at the hottest patch.

    Args:
        pictures: uint8 [n, h, h].
        heat: [n, rows, columns], of each patch, see `explanation.maps`.
        boxes: [n, M, 4] around fractures, x0, y0, x1, y1 in shares of the picture, NaN where there is none.
        side: of what comes back [pixels].

    Returns:
        Two arrays uint8 [n, side, side, 3].
    """
    plain = np.zeros((len(pictures), side, side, 3), np.uint8)
    under = np.zeros_like(plain)
    low, high = np.quantile(heat, [_COOLEST, 1]) if len(heat) else (0, 1)
    share = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
    for number, picture in enumerate(pictures):
        plain[number] = thumbnail(picture, side)
        coloured = cv2.applyColorMap(np.round(255 * share[number]).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        coloured = cv2.resize(coloured, (side, side), interpolation=cv2.INTER_NEAREST)
        under[number] = np.round((1 - _SHADE) * plain[number] + _SHADE * coloured)
        for image in (plain[number], under[number]):
            for x0, y0, x1, y1 in [] if boxes is None else boxes[number][~np.isnan(boxes[number]).any(axis=1)]:
                corners = [(round(x * (side - 1)), round(y * (side - 1))) for x, y in ((x0, y0), (x1, y1))]
                cv2.rectangle(image, *corners, _GREEN, 1)
        row, column = np.unravel_index(heat[number].argmax(), heat[number].shape)
        place = (int((column + 0.5) / heat.shape[2] * side), int((row + 0.5) / heat.shape[1] * side))
        cv2.drawMarker(under[number], place, _SKY, cv2.MARKER_TILTED_CROSS, 11, 2)
    return plain, under


def thumbnail(picture: np.ndarray, side: int = 96) -> np.ndarray:
    """uint8 [h, h] → red, green and blue, uint8 [side, side, 3]."""
    how = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_CUBIC
    return cv2.cvtColor(cv2.resize(picture, (side, side), interpolation=how), cv2.COLOR_GRAY2RGB)


def png(pixels: np.ndarray) -> bytes:
    """Red, green and blue, uint8 [h, w, 3], as a PNG file."""
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
