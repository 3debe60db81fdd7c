"""The manual pages of `passgate man --dir`, read by groff with all warnings, and shown by man."""

import os

from harness import PeerTest, binary, run


class Manual(PeerTest):
    @classmethod
    def prepare(cls):
        cls.pages = cls.directory / "man"
        run(binary(), "man", "--dir", cls.pages)

    def test_groff_has_no_warnings(self):
        pages = sorted(self.pages.iterdir())
        self.assertGreater(len(pages), 20)
        for page in pages:
            said = run("groff", "-man", "-ww", "-z", "-Tutf8", page)
            self.assertEqual(said.stdout + said.stderr, "", page.name)

    def test_man_shows_the_text_of_the_pages(self):
        environment = {**os.environ, "MANWIDTH": "100", "MANPAGER": "cat", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
        shown = {page.name: run("man", "-l", page, env=environment).stdout for page in self.pages.iterdir()}
        for name, parts in {
            "passgate.1": ["SYNOPSIS", "SUBCOMMANDS", "FILES", "ENVIRONMENT", "PASSGATE_CONFIG", "EXAMPLES"],
            "passgate-user-add.1": ["passgate user add alice@example.com --name Alice --role admin,ops", "--no-password"],
            "gateway.toml.5": ["[server]", 'listen = "127.0.0.1:8080"', "[[routes]]", "strip_prefix", "passgate.db"],
        }.items():
            for part in parts:
                self.assertIn(part, shown[name], name)
        # A line that roff reads as a request would be missing from the page.
        self.assertNotIn("\\", shown["gateway.toml.5"])
