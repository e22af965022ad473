# SPDX-License-Identifier: Apache-2.0
"""check: secrets that others may read, on this machine or on their way."""
import json
import os

from checking import findings, warns
from relaytools.relay import command, write_config


def test_a_secret_in_a_configuration_that_everybody_may_read_is_told(place):
    url = "https://127.0.0.1:9/services/T0/B0/hidden"
    sections = place.sections(alert={"slack_url": url, "alertmanager_url": "http://127.0.0.1:9"}, kafka={"sasl.password": "hidden"})
    config = write_config(os.path.join(place.folder, "open.ini"), sections)

    def told():
        done = command("check", "--json", config=config, binary=place.binary)
        assert "hidden" not in done.stdout + done.stderr
        return sorted(one["text"].split(" is a secret and stands in ")[0] for one in json.loads(done.stdout)["checks"] if " is a secret and stands in " in one["text"])
    assert told() == [], "only its owner may read it"
    os.chmod(config, 0o640)
    assert told() == []
    os.chmod(config, 0o644)
    exposed = told()
    assert {"[alert] slack_url", "[kafka] sasl.password"} <= set(exposed), exposed
    assert "[alert] alertmanager_url" not in exposed, "a URL without a password"
    file = os.path.join(place.folder, "slack_url")
    with open(file, "w", encoding="ascii") as out:
        out.write(url)
    sections["alert"]["slack_url_file"] = file
    del sections["alert"]["slack_url"]
    os.chmod(write_config(config, sections), 0o644)
    assert "[alert] slack_url" not in told()


def test_a_client_secret_that_goes_to_its_token_endpoint_in_clear_is_told(place):
    words = "the client's secret goes to the token endpoint in clear"
    oauth = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "relay",
             "sasl.oauthbearer.client.secret": "hidden", "sasl.oauthbearer.token.endpoint.url": "http://identity.invalid/token"}
    warns(place, words, kafka=oauth)
    _, texts = findings(place, "warn", kafka={**oauth, "sasl.oauthbearer.token.endpoint.url": "https://identity.invalid/token"})
    assert not any(words in text for text in texts), texts
