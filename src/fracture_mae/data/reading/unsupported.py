"""What a file is that is no picture of a kind that is read: so that its reason says more than that it is none."""

import io
import re

from PIL import Image

from fracture_mae.data.reading import jpeg, tiff

READ = "AVIF, BMP, DICOM, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF or WebP"
# First bytes of a file → what it is; the bytes are those of the formats' own specifications.
_STARTS = {
    b"8BPS": "a Photoshop file (PSD)",
    b"%!PS": "a PostScript file (EPS)",
    b"\xc5\xd0\xd3\xc6": "a PostScript file (EPS)",
    b"%PDF": "a PDF file",
    b"DDS ": "a DirectDraw surface (DDS)",
    b"\x59\xa6\x6a\x95": "a Sun raster file",
    b"\x76\x2f\x31\x01": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance picture (HDR)",
    b"#?RGBE": "a Radiance picture (HDR)",
    b"icns": "an icon (ICNS)",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"II\xbc": "a JPEG XR picture",
    b"qoif": "a QOI picture",
    b"\x01\xda": "an SGI picture",
    b"SIMPLE  =": "a FITS file",
    b"P7": "a PAM picture",
    b"PF": "a PFM picture in colour",
    b"gimp xcf": "a GIMP file (XCF)",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile (WMF)",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x5c\x01\0\0": "a NIfTI volume",
    b"PK\3\4": "a zip archive",
    b"PK\5\6": "an empty zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xd0\xcf\x11\xe0": "an old Office file or Thumbs.db",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"{\\rtf": "a text document (RTF)",
    b"\x1aE\xdf\xa3": "a film (Matroska)",
    b"fLaC": "a sound file",
    b"OggS": "a sound file",
    b"ID3": "a sound file",
    b"SQLite format 3": "a database",
}
_BRANDS = {  # of the ISO base media files, whose fifth byte begins with ftyp
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC picture"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture that is damaged"),
    b"jxl ": "a JPEG XL picture",
    b"crx ": "a raw photograph (CR3)",
}
_RIFF = {b"WAVE": "a sound file", b"AVI ": "a film (AVI)", b"WEBP": "a WebP picture that is damaged"}
# What begins so is a picture of a kind that is read, or was one.
_DAMAGED = {
    jpeg.START: "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
_TEXT = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(\?xml|!--|!doctype|svg|html|head|body)", re.IGNORECASE)
_ICON = re.compile(rb"\0\0[\1\2]\0[^\0]")  # the last byte counts them; a TGA may begin with the others
_NETPBM = re.compile(rb"P[1-6f]\s")
_LOOKED_AT = 1024  # bytes
_WITHOUT_SIGN = ("PCX", "DIB", "XBM", "IM", "MSP", "SPIDER", "TGA")  # of Pillow
_MOST_COMPRESSED = 128  # pixels of a byte


def reason(content: bytes) -> str:
    """Why a file, which the decoders do not know, is not read: what it is, and what is."""
    start = content[:_LOOKED_AT]
    if any(start.startswith(each) for each in tiff.STARTS):
        return tiff.unsupported(content)
    if start.startswith(jpeg.START) and jpeg.unsupported(content):
        return _is(jpeg.unsupported(content))
    for known, name in _DAMAGED.items():
        if start.startswith(known):
            return f"a {name} picture whose header is damaged"
    if _NETPBM.match(start):
        return "a PPM picture whose header is damaged"
    for known, name in _STARTS.items():
        if start.startswith(known):
            return _is(name)
    if _ICON.match(start):
        return _is("an icon (ICO)")
    if start[4:8] == b"ftyp":
        return _is(_BRANDS.get(start[8:12], "a film (MP4 or alike)"))
    if start[:4] == b"RIFF":
        return _is(_RIFF.get(start[8:12], "a RIFF file"))
    if start[257:262] == b"ustar":
        return _is("a tar archive")
    text = _TEXT.match(start)
    if text:
        return _is("an SVG drawing" if b"<svg" in start.lower() else "an XML or HTML text")
    without_sign = _named_by_pillow(content)
    return _is(f"a picture of format {without_sign}") if without_sign else "not an image file"


def _is(name: str) -> str:
    return name if name.endswith("damaged") else f"{name}, which is not supported; expected {READ}"


def _named_by_pillow(content: bytes) -> str:
    """The format of a file that has no, or hardly any, first bytes of its own; "" where its header makes no sense in any of these."""
    if content[-18:-2] == b"TRUEVISION-XFILE":
        return "TGA"
    try:
        with Image.open(io.BytesIO(content), formats=_WITHOUT_SIGN) as header:
            width, height = header.size
            is_likely = 1 < width * height < _MOST_COMPRESSED * len(content)
            return header.format if is_likely else ""
    except Exception:
        return ""
