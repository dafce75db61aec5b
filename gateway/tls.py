"""The certificate of the public port, and how it is renewed while connections live on."""

from __future__ import annotations

import ssl
from pathlib import Path


class Certificate:
    """`context` is for new connections; those that stand keep the one they were made with."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both files. OSError (ssl.SSLError among them) says what is wrong with them."""
        self._certificate = certificate
        self._key = key
        self.context = self._load()

    def reload(self) -> None:
        """Read both files again. When that fails (OSError), the old certificate stays in use."""
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key)
        except OSError as error:  # which names neither file
            files = f"listener.tls_certificate {self._certificate} with listener.tls_key {self._key}"
            raise OSError(f"{files}: {error.strerror or error}") from error
        return context
