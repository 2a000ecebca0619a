"""The public port over TLS, certified by Lamina's own authority: what clients and Lamina's own verbs find in clouds.yaml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lamina.hosts import certificates
from tests.scenario.cloud import Cloud, cloud_of, host


def shown(cloud: Cloud) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lamina.cli.main", "fleet", "show", "--state", str(cloud.state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.weakness(295)
@pytest.mark.weakness(319)
def test_clients_and_verbs_trust_the_one_that_clouds_yaml_names_and_nobody_else(tmp_path: Path) -> None:
    with cloud_of(tmp_path, [host("one")], "--own-certificate") as cloud:
        assert cloud.url.startswith("https://127.0.0.1:")
        conn = cloud.connect()
        assert [server.name for server in conn.compute.servers()] == []

        answer = conn.session.get(f"{cloud.url}/healthz")
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert shown(cloud).returncode == 0

        path = cloud.state / "clouds.yaml"
        clouds = yaml.safe_load(path.read_text())
        (tmp_path / "other.pem").write_bytes(certificates.authority(1_700_000_000).certificate)
        clouds["clouds"]["lamina"]["cacert"] = str(tmp_path / "other.pem")
        path.write_text(yaml.safe_dump(clouds))
        refused = shown(cloud)
        assert refused.returncode == 1
        assert "is not trusted, so nothing was sent" in refused.stderr
        del clouds["clouds"]["lamina"]["cacert"]
        path.write_text(yaml.safe_dump(clouds))
        assert "is not trusted, so nothing was sent" in shown(cloud).stderr
