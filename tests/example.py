"""A repository as people have it: two hosts that run two stacks; the image is nobody's."""

from __future__ import annotations

from collections.abc import Mapping

PIN = f"1.0@sha256:{'0' * 64}"
IMAGE = f"example.com/app:{PIN}"

GOOD: Mapping[str, str] = {
    "global/common.env": "TZ=Europe/Berlin\n",
    "host/media/stacks.yaml": "- proxy\n- web\n",
    "host/media/host.env": "DOMAIN=media.example.com\n",
    "host/nas/stacks.yaml": "- web\n- proxy\n",
    "host/nas/host.env": "DOMAIN=nas.example.com\n",
    "stacks/proxy/compose.yaml": (
        "services:\n"
        "  proxy:\n"
        f"    image: {IMAGE}\n"
        "    ports: ['80:80', '127.0.0.1:9000:9000']\n"
        "    networks: [edge]\n"
        "networks: {edge: {name: edge}}\n"
    ),
    "stacks/web/compose.yaml": (
        "x-commitd: {after: [proxy]}\n"
        "services:\n"
        "  web:\n"
        f"    image: {IMAGE}\n"
        "    environment: {TZ: '${TZ}', DOMAIN: '${DOMAIN}', LEVEL: '${LEVEL:-info}'}\n"
        "    command: ['sh', '-c', 'echo $$HOME']\n"
        "    ports: ['127.0.0.2:9000:9000']\n"
        "    volumes: [./web.conf:/etc/web.conf:ro, data:/data]\n"
        "    networks: [edge]\n"
        "networks: {edge: {external: true}}\n"
        "volumes: {data: {}}\n"
    ),
    "stacks/web/web.conf": "listen 8080\n",
}
