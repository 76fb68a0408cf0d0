"""What ``commitd check`` judges beyond the layout: one file a job, each pure."""

from __future__ import annotations

RULES = {
    "layout": "files and names are where and what the layout says",
    "syntax": "YAML that can be read",
    "checkout": "a commit that can be checked out safely",
    "settings": "x-commitd and commitd.yaml hold what they may hold",
    "env-file": "env files that can be read, without keys that change how Compose works",
    "plain-secret": "what is called secret is encrypted",
    "recipients": "who needs a secret can read it, and nobody else",
    "host-key": "each host that has secrets to read has a public key of its own",
    "paths": "Compose files name only files of the repository",
    "policy": "nothing of the repository runs on the host",
    "writable-checkout": "containers can write to no file of Git",
    "privileges": "what reaches beyond a container's walls is known",
    "pins": "every image is pinned by tag and digest",
    "override": "no file is kept beside the Compose file that Compose does not read",
    "name": "stacks are called as their directories are",
    "compose": "Compose can resolve the stack",
    "variable": "every variable has a value",
    "dollar": "no value loses what stands behind a dollar sign",
    "raw": "decrypted files are read verbatim, and files of the format raw can be",
    "ciphertext": "containers get the plaintext of secrets",
    "lfs": "hosts get files, and not what Git LFS has of them",
    "subnets": "no address of a host's networks is in two of them",
    "ports": "no port of a host is published twice",
    "container-name": "no container name is taken twice on a host",
    "shared": "each network and volume of a host is declared by one stack",
    "renamed": "no stack gets another name without its data",
    "external": "somebody makes each external network and volume",
    "after": "the order of stacks can be kept",
    "health-timeout": "no stack has less time than its health checks may take",
    "unused": "every stack runs somewhere",
    "data-in-tree": "containers write nothing into the checkout",
    "no-compose": "Docker Compose is there to resolve the stacks",
}
"""Each rule, and what holds where it finds nothing."""
