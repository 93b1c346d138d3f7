"""Models to and from other ecosystems: Hugging Face's folders, and programs that run without `dl`."""

from dl.interop.exported import export as export
from dl.interop.families import exact_gelu as exact_gelu
from dl.interop.folder import load as load
from dl.interop.folder import save as save
from dl.interop.pictures import feature_maps as feature_maps
from dl.interop.pictures import image_preparation as image_preparation
from dl.interop.pictures import normalisation as normalisation
