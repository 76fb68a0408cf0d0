"""The repository of the demo: one host, four stacks as people run them at home."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sandbox import Sandbox

HOST = "media"


class Example:
    """Builds the images and writes the files."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        serve = "exec httpd -f -p 8080 -h /srv"
        self.photos = {
            version: box.images.build(
                "photos", version, command=serve, files={"srv/index.html": f"photos {version}\n"}
            )
            for version in ("1.4.0", "1.5.0")
        }
        self.photos["2.0.0"] = box.images.build(
            "photos", "2.0.0", command="echo 'cannot read the library'; exit 1"
        )
        page: dict[str, str | bytes] = {"srv/index.html": "here\n"}
        self.proxy = box.images.build("proxy", "3.2.1", command=serve, files=page)
        self.notes = box.images.build("notes", "0.9.4", command=serve, files=page)
        self.database = box.images.build("database", "16.2", command="exec tail -f /dev/null")
        self.weather = box.images.build("weather", "2.0.0", command=serve, files=page)
        self.rogue = box.images.build("miner", "6.6.6", command="exec tail -f /dev/null")

    def files(self) -> dict[str, str | bytes]:
        """The first commit."""
        return {
            f"host/{HOST}/stacks.yaml": "- proxy\n- notes\n- photos\n- weather\n",
            f"host/{HOST}/host.env": "DOMAIN=home.example\n",
            "global/common.env": "TZ=Europe/Berlin\n",
            "stacks/proxy/compose.yaml": (
                "services:\n"
                "  proxy:\n"
                f"    image: {self.proxy}\n"
                "    restart: unless-stopped\n"
                "    environment: {TZ: '${TZ}', DOMAIN: '${DOMAIN}'}\n"
                "    volumes: [./proxy.conf:/etc/proxy.conf:ro]\n"
            ),
            "stacks/proxy/proxy.conf": "listen 8080\n",
            "stacks/notes/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {self.notes}\n"
                "    restart: unless-stopped\n"
                "    environment: {DB_PASSWORD: '${DB_PASSWORD}'}\n"
                "    depends_on: [db]\n"
                "  db:\n"
                f"    image: {self.database}\n"
                "    restart: unless-stopped\n"
                "    environment: {DB_PASSWORD: '${DB_PASSWORD}'}\n"
                "    volumes: [data:/var/lib/db]\n"
                "volumes: {data: {}}\n"
            ),
            "stacks/notes/db.secret.env": self.password("correct horse"),
            **self.photos_at("1.4.0"),
            "stacks/weather/compose.yaml": (
                "services:\n"
                "  weather:\n"
                f"    image: {self.weather}\n"
                "    restart: unless-stopped\n"
                "    volumes: [history:/var/lib/weather]\n"
                "volumes: {history: {}}\n"
            ),
        }

    def photos_at(self, version: str) -> dict[str, str | bytes]:
        """The photos stack at a version, as an update bot would write it."""
        return {
            "stacks/photos/compose.yaml": (
                "services:\n"
                "  photos:\n"
                f"    image: {self.photos[version]}\n"
                "    restart: unless-stopped\n"
            )
        }

    def password(self, value: str) -> bytes:
        """The secret file of the notes stack, encrypted by sops as a person would."""
        return self._box.encrypt(f"DB_PASSWORD={value}\n", [self._box.age.recipient])
