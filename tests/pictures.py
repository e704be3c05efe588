"""A small picture in every kind of file that might be among X-rays, made by code: those that are read, and those that are not."""

import io
import struct
import zlib
from functools import cache
from itertools import product

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageOps

HEIGHT, WIDTH = 48, 64
_Y, _X = np.mgrid[:HEIGHT, :WIDTH]
# Smooth, so that no compression harms it, with all four corners of their own, so that a turn is seen: uint8 [48, 64].
PICTURE = (
    30
    + 2.2 * _X
    + 0.8 * _Y
    + 60 * np.exp(-((_X - 14) ** 2 + (_Y - 10) ** 2) / 40)
    - 25 * np.exp(-((_X - 50) ** 2 + (_Y - 38) ** 2) / 30)
).astype(np.uint8)
SIXTEEN = PICTURE.astype(np.uint16) * 257
TWELVE = PICTURE.astype(np.uint16) * 16
_COLOUR, _COLOUR_16 = np.dstack([PICTURE] * 3), np.dstack([SIXTEEN] * 3)
_OPACITY, _OPACITY_16 = np.full((HEIGHT, WIDTH), 250, np.uint8), np.full((HEIGHT, WIDTH), 64_000, np.uint16)
_OTHER = 255 - PICTURE  # of a frame or page that is not the first
TURNS = {
    1: lambda picture: picture,
    2: lambda picture: picture[:, ::-1],
    3: lambda picture: picture[::-1, ::-1],
    4: lambda picture: picture[::-1],
    5: lambda picture: picture.T,
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: picture[::-1, ::-1].T,
    8: lambda picture: np.rot90(picture),
}


def in_mode(mode):
    """The picture as one of Pillow's; where there may be opacity, there is."""
    picture = Image.fromarray(SIXTEEN if mode.startswith("I;16") else PICTURE)
    if mode == "1":
        return Image.fromarray(PICTURE > 128)
    if mode in ("CMYK", "YCbCr"):
        picture = picture.convert("RGB")
    if mode in ("RGBA", "LA"):
        picture = picture.convert(mode)
        picture.putalpha(Image.fromarray(_OPACITY))
    return picture if picture.mode == mode else picture.convert(mode)


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(samples, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def turned(mode, kind, orientation, *, prefixed=False, **options):
    """A file that EXIF says is to be turned; prefixed: as some devices write it, where only JPEG should."""
    exif = Image.Exif()
    exif[274] = orientation
    content = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0") if prefixed else exif
    return saved(in_mode(mode), kind, exif=content, **options)


def chunk(name, content, length=None):
    """A chunk of a PNG."""
    length = len(content) if length is None else length
    return length.to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)


def png(bits, colours, samples, *chunks):
    """A PNG of rows that are packed already."""
    samples = samples.astype(">u2") if bits == 16 else samples
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colours, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples))
    between = b"".join(chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + between + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def packed(picture, bits):
    """Its highest bits, several pixels in a byte."""
    levels = picture >> (8 - bits)
    each = 8 // bits
    return sum((levels[:, i::each] << (8 - bits * (i + 1))).astype(np.uint8) for i in range(each)).astype(np.uint8)


def tiff_of(data, bits, photometric):
    """A TIFF of one strip of grey, its samples packed already: 1, 2, 4 or 12 bits."""
    start = 8 + 2 + 9 * 12 + 4
    tags = [(256, 4, WIDTH), (257, 4, HEIGHT), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, start)]
    tags += [(277, 3, 1), (278, 4, HEIGHT), (279, 4, len(data))]
    listed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + listed + bytes(4) + data


def _packed_12(levels):
    pairs = levels.reshape(-1, 2).astype(np.uint32)
    both = (pairs[:, 0] << 12) | pairs[:, 1]
    return np.stack([both >> 16, (both >> 8) & 255, both & 255], axis=1).astype(np.uint8).tobytes()


def bmp(bits, compression, data, palette=b"", masks=b"", height=HEIGHT):
    start = 14 + 40 + len(masks) + len(palette)
    told = (40, WIDTH, height, 1, bits, compression, len(data), 2_835, 2_835, len(palette) // 4, 0)
    return (
        struct.pack("<2sIII", b"BM", start + len(data), 0, start)
        + struct.pack("<IiiHHIIiiII", *told)
        + masks
        + palette
        + data
    )


def _bmps():
    grey = b"".join(bytes([level] * 3 + [0]) for level in range(256))
    up = PICTURE[::-1]
    five, six = (up >> 3).astype(np.uint16), (up >> 2).astype(np.uint16)
    runs = b"".join(b"".join(bytes([1, level]) for level in row) + b"\0\0" for row in up) + b"\0\1"
    yield "BMP from above", bmp(8, 0, PICTURE.tobytes(), grey, height=-HEIGHT)
    yield "BMP of runs", bmp(8, 1, runs, grey)
    yield "BMP 555", bmp(16, 0, (five << 10 | five << 5 | five).astype("<u2").tobytes())
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    yield "BMP 565", bmp(16, 3, (five << 11 | six << 5 | five).astype("<u2").tobytes(), masks=masks)
    yield "BMP 32", bmp(32, 0, np.dstack([_COLOUR, 0 * PICTURE])[::-1].tobytes())
    yield "BMP 4", bmp(4, 0, packed(up, 4).tobytes(), b"".join(bytes([17 * level] * 3 + [0]) for level in range(16)))
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"BMP {mode}", saved(in_mode(mode), "BMP")


def _jpegs():
    for mode, options in product(("L", "RGB", "CMYK"), ({}, {"progressive": True}, {"restart_marker_rows": 1})):
        yield f"JPEG {mode} {' '.join(options)}", saved(in_mode(mode), "JPEG", quality=95, **options)
    yield "JPEG lossless", imagecodecs.jpeg8_encode(PICTURE, lossless=True)
    yield "JPEG RGB as such", saved(in_mode("RGB"), "JPEG", quality=95, keep_rgb=True)
    yield "JPEG without subsampling", saved(in_mode("RGB"), "JPEG", quality=95, subsampling=0)
    other = Image.fromarray(_OTHER).convert("RGB")
    yield "MPO", saved(in_mode("RGB"), "MPO", save_all=True, append_images=[other], quality=95)


def _pngs():
    for bits in (1, 2, 4, 8):
        rows = packed(PICTURE, bits)
        levels = b"".join(bytes([level] * 3) for level in np.linspace(0, 255, 2**bits).astype(np.uint8))
        yield f"PNG {bits}", png(bits, 0, rows)
        yield (
            f"PNG {bits} transparent level",
            png(bits, 0, rows, chunk(b"tRNS", (2**bits - 1 if bits > 1 else 0).to_bytes(2))),
        )
        palette = chunk(b"PLTE", levels)
        yield f"PNG {bits} palette", png(bits, 3, rows, palette)
        half = chunk(b"tRNS", bytes([128] * 2**bits))
        yield f"PNG {bits} half transparent palette", png(bits, 3, rows, palette, half)
    for bits, grey in ((8, PICTURE), (16, SIXTEEN)):
        opacity = (_OPACITY if bits == 8 else _OPACITY_16).astype(grey.dtype)
        level = int(grey[30, 40]).to_bytes(2)
        yield f"PNG {bits} RGB", png(bits, 2, np.dstack([grey] * 3))
        yield f"PNG {bits} RGB transparent colour", png(bits, 2, np.dstack([grey] * 3), chunk(b"tRNS", level * 3))
        yield f"PNG {bits} LA", png(bits, 4, np.dstack([grey, opacity]))
        yield f"PNG {bits} RGBA", png(bits, 6, np.dstack([grey] * 3 + [opacity]))
        yield f"PNG {bits} one transparent level", png(bits, 0, grey, chunk(b"tRNS", level))
    yield "PNG 16", png(16, 0, SIXTEEN)
    second = [Image.fromarray(_OTHER)]
    for mode in ("L", "RGBA"):
        frames = {"save_all": True, "append_images": [frame.convert(mode) for frame in second]}
        yield f"APNG {mode}", saved(in_mode(mode), "PNG", **frames)
        yield f"APNG {mode} beside a picture", saved(in_mode(mode), "PNG", default_image=True, **frames)


def _numbers():
    yield "bool", PICTURE > 128
    yield "uint8", PICTURE
    yield "int8", (PICTURE.astype(int) - 128).astype(np.int8)
    yield "uint16", SIXTEEN
    yield "int16", (SIXTEEN.astype(int) - 32_768).astype(np.int16)
    yield "uint32", SIXTEEN.astype(np.uint32) * 60_000
    yield "int32", (SIXTEEN.astype(np.int32) - 32_768) * 1_000
    yield "uint64", SIXTEEN.astype(np.uint64)
    for kind in (np.float16, np.float32, np.float64):
        yield kind.__name__, (PICTURE / 255).astype(kind)


def _tiffs():
    ways = {"": {}, "LZW": {"compression": "lzw"}, "deflate": {"compression": "deflate"}, "MM": {"byteorder": ">"}}
    ways |= {
        "PackBits": {"compression": "packbits"},
        "Zstandard": {"compression": "zstd"},
        "BigTIFF": {"bigtiff": True},
    }
    ways |= {"tiles": {"tile": (16, 16)}, "tiles LZW": {"tile": (16, 16), "compression": "lzw"}}
    for (name, samples), (way, options), zero in product(_numbers(), ways.items(), ("black", "white")):
        if "LZW" in way and (name == "float16" or (name, zero) == ("int8", "white")):
            continue
        if name == "bool" and way in ("Zstandard", "tiles", "tiles LZW"):
            continue
        if zero == "white" and name == "bool":
            samples = ~samples
        elif zero == "white":
            samples = -samples if samples.dtype.kind == "f" else ~samples
        yield f"TIFF {name} {way} {zero} is zero", tiff(samples, photometric=f"minis{zero}", **options)
    for bits, photometric in product((1, 2, 4), (0, 1)):
        levels = packed(PICTURE if photometric else _OTHER, bits).tobytes()
        yield f"TIFF {bits} photometric {photometric}", tiff_of(levels, bits, photometric)
    yield "TIFF 12", tiff_of(_packed_12(TWELVE), 12, 1)
    yield "TIFF 12 white is zero", tiff_of(_packed_12(4_095 - TWELVE), 12, 0)
    yield "TIFF JPEG", tiff(PICTURE, compression="jpeg")
    yield from _coloured_tiffs()
    for mode in ("L", "RGB", "P", "CMYK", "YCbCr", "RGBA"):
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            yield f"TIFF {mode} {compression}", saved(in_mode(mode), "TIFF", compression=compression)
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield f"TIFF {compression}", saved(in_mode("1"), "TIFF", compression=compression)
    yield "TIFF RGB jpeg", saved(in_mode("RGB"), "TIFF", compression="jpeg")
    yield "TIFF of pages", saved(in_mode("L"), "TIFF", save_all=True, append_images=[Image.fromarray(_OTHER)])
    yield "TIFF of a stack", tiff(np.stack([PICTURE, _OTHER]), photometric="minisblack")


def _coloured_tiffs():
    kinds = {"8": _COLOUR, "16": _COLOUR_16, "float32": _COLOUR.astype(np.float32) / 255}
    kinds |= {"8 alpha": np.dstack([_COLOUR, _OPACITY]), "16 alpha": np.dstack([_COLOUR_16, _OPACITY_16])}
    ways = {"": {}, "LZW": {"compression": "lzw"}, "tiles": {"tile": (16, 16)}}
    for (name, samples), (way, options) in product(kinds.items(), ways.items()):
        extra = {"extrasamples": ["unassalpha"]} if "alpha" in name else {}
        contiguous = {"photometric": "rgb", "planarconfig": "contig"}
        planes = {"photometric": "rgb", "planarconfig": "separate"}
        yield f"TIFF {name} colours {way}", tiff(samples, **contiguous, **options, **extra)
        if way == "LZW" and name != "8" and name != "8 alpha":
            continue
        moved = np.ascontiguousarray(np.moveaxis(samples, 2, 0))
        yield f"TIFF {name} planes {way}", tiff(moved, **planes, **options, **extra)
    pair = np.dstack([SIXTEEN, _OPACITY_16])
    yield "TIFF 16 LA", tiff(pair, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    half = np.dstack([_COLOUR // 2, np.full_like(PICTURE, 128)])
    yield "TIFF associated alpha", tiff(half, photometric="rgb", planarconfig="contig", extrasamples=["assocalpha"])


def _turned():
    kinds = [("L", "JPEG"), ("CMYK", "JPEG"), ("L", "AVIF"), ("RGBA", "AVIF"), ("L", "JPEG2000")]
    kinds += [(mode, "PNG") for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16")]
    kinds += [(mode, "TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "I;16", "F")]
    for (mode, kind), orientation in product(kinds, TURNS):
        if kind != "JPEG2000" or orientation == 1:  # Pillow writes none there
            yield f"turned {orientation} {kind} {mode}", turned(mode, kind, orientation)
    for orientation in TURNS:
        name = f"turned {orientation} TIFF I;16 LZW"
        yield name, turned("I;16", "TIFF", orientation, compression="tiff_lzw")
    for mode, orientation, prefixed in product(("RGB", "RGBA"), TURNS, (False, True)):
        name = f"turned {orientation} WebP {mode}{' prefixed' * prefixed}"
        yield name, turned(mode, "WEBP", orientation, prefixed=prefixed, lossless=True)


def _others():
    for mode, kind in product(("1", "L", "P", "RGB", "RGBA"), ("GIF", "WEBP", "AVIF")):
        yield f"{kind} {mode}", saved(in_mode(mode), kind)
    more = {"save_all": True, "append_images": [Image.fromarray(_OTHER).convert("RGB")]}
    for kind in ("GIF", "WEBP", "AVIF"):
        yield f"{kind} animation", saved(in_mode("RGB"), kind, **more)
    yield "GIF transparent level", saved(in_mode("L"), "GIF", transparency=int(PICTURE[30, 40]))
    for mode in ("L", "LA", "RGB", "RGBA", "I;16"):
        yield f"JPEG2000 {mode}", saved(in_mode(mode), "JPEG2000")
    yield "JPEG2000 of 12 bits", imagecodecs.jpeg2k_encode(TWELVE, level=0, bitspersample=12)
    yield "JPEG2000 stream", imagecodecs.jpeg2k_encode(PICTURE, level=0, codecformat="j2k")
    yield "AVIF of 12 bits", imagecodecs.avif_encode(TWELVE, bitspersample=12, level=100)
    size = b"%d %d\n" % (WIDTH, HEIGHT)
    for most, levels in (
        (100, PICTURE // 3),
        (255, PICTURE),
        (1_000, PICTURE * 3.9),
        (4_095, TWELVE),
        (65_535, SIXTEEN),
    ):
        told = size + b"%d\n" % most
        kind = np.uint8 if most < 256 else ">u2"
        levels = levels.astype(kind)
        yield f"PGM to {most}", b"P5\n# a comment\n" + told + levels.tobytes()
        yield f"PPM to {most}", b"P6\n" + told + np.dstack([levels] * 3).astype(kind).tobytes()
        yield f"PGM to {most} in letters", b"P2\n" + told + b" ".join(b"%d" % level for level in levels.ravel())
    yield "PBM", saved(in_mode("1"), "PPM")
    yield "PBM in letters", b"P1\n" + size + b" ".join(b"%d" % (level < 128) for level in PICTURE.ravel())
    yield "PFM", cv2.imencode(".pfm", PICTURE.astype(np.float32) / 255)[1].tobytes()


@cache
def read():
    """Name → content of files whose picture is read."""
    return dict((*_jpegs(), *_pngs(), *_tiffs(), *_bmps(), *_others(), *_turned()))


def brand(name):
    """The beginning of an ISO base media file."""
    return struct.pack(">I4s4sI4s", 20, b"ftyp", name, 0, name) + bytes(200)


@cache
def refused():
    """Name → content of files that are refused, and what the reason says."""
    found = {
        "nothing": (b"", "the file is empty"),
        "text": (b"patient,label\n1,fractured\n" * 20, "not an image file"),
        "zeros": (bytes(5_000), "not an image file"),
        "JPEG of 12 bits": (
            imagecodecs.jpeg8_encode(TWELVE, bitspersample=12),
            "a JPEG picture of 12 bits, which is not supp",
        ),
        "JPEG LS": (imagecodecs.jpegls_encode(PICTURE), "a JPEG-LS picture, which"),
        "JPEG XL": (imagecodecs.jpegxl_encode(PICTURE), "a JPEG XL picture, which"),
        "JPEG XR": (imagecodecs.jpegxr_encode(PICTURE), "a JPEG XR picture, which"),
        "HEIC": (brand(b"heic"), "a HEIC picture, which is not supported; expected AVIF, "),
        "film": (brand(b"isom"), "a film"),
        "TIFF of complex numbers": (
            tiff(PICTURE.astype(np.complex64)),
            "a TIFF of .*64 bits.*, which is not supported",
        ),
        "TIFF of a volume": (
            tiff(np.stack([PICTURE] * 16), volumetric=True, photometric="minisblack"),
            "a TIFF volume",
        ),
        "zip": (b"PK\3\4" + bytes(100), "a zip archive, which"),
        "PSD": (b"8BPS\0\1" + bytes(100), r"a Photoshop file \(PSD\), which"),
        "SVG": (b'<?xml version="1.0"?>\n<svg width="9" height="9"/>', "an SVG drawing, which"),
        "HTML": (b"<!DOCTYPE html><html><body>403</body></html>", "an XML or HTML text, which"),
        "EXR": (b"\x76\x2f\x31\x01" + bytes(100), "an OpenEXR picture, which"),
        "Sun raster": (cv2.imencode(".ras", PICTURE)[1].tobytes(), "a Sun raster file, which"),
        "HDR": (cv2.imencode(".hdr", _COLOUR)[1].tobytes(), "a Radiance picture"),
    }
    lossless = imagecodecs.jpeg8_encode(SIXTEEN, lossless=True, bitspersample=16)
    found["lossless JPEG of 16 bits"] = (lossless, "a lossless JPEG picture of 16 bits, which")
    named = {kind: f"a picture of format {kind}" for kind in ("TGA", "PCX", "DIB")}
    named |= {"ICO": "an icon", "PDF": "a PDF file"}
    named |= {
        "EPS": "a PostScript file",
        "DDS": "a DirectDraw surface",
        "QOI": "a QOI picture",
        "SGI": "an SGI picture",
    }
    for kind, told in named.items():
        found[kind] = (saved(in_mode("RGB"), kind), f"{told}.*, which is not supported; expected ")
    return found


def pillows_reading(content):
    """What Pillow reads, turned, on black: float [height, width]."""
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        picture = ImageOps.exif_transpose(picture)
        if picture.mode[0] in "IF":
            levels = np.asarray(picture).astype(float)
            levels[levels == picture.info.get("transparency")] = 0
            return levels
        samples = np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB")).astype(float)
        luma = samples[..., :3] @ [0.299, 0.587, 0.114]
        return luma * samples[..., 3] / 255 if samples.shape[2] == 4 else luma


def likeness(one, other):
    """Correlation of two pictures; 0 where their shapes differ, or one alone is of a single grey."""
    if one.shape != other.shape:
        return 0.0
    one, other = (picture.astype(float) - picture.mean() for picture in (one, other))
    spread = one.std() * other.std()
    return float((one * other).mean() / spread) if spread > 1e-9 else float(one.std() == other.std())
