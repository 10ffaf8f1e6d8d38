"""What a phone asks for to keep the product on its home screen, as a program of its own."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from api.access import Anyone
from api.web import assets

router = APIRouter()


@router.get("/manifest.webmanifest")
def manifest(_: Anyone) -> JSONResponse:
    """Return the web app manifest (W3C): its name, its picture, where it opens and in which colours."""
    return JSONResponse(
        {
            "name": "Fixwright",
            "short_name": "Fixwright",
            "id": "/",
            "start_url": "/",
            "scope": "/",
            "display": "standalone",
            "background_color": "#ffffff",
            "theme_color": "#ffffff",
            "icons": [{"src": assets.url("img/mark.svg"), "sizes": "any", "type": "image/svg+xml", "purpose": "any"}],
        },
        media_type="application/manifest+json",
    )
