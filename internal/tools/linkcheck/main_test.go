package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestBrokenLinksAreReported(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"README.md": "# Quick start: now!\n" +
			"[file](docs/a.md), [heading](docs/a.md#two-words), [own](#quick-start-now), [folder](docs)\n" +
			"[web](https://example.com/none), [mail](mailto:a@example.com)\n" +
			"`[code](none1)` and\n```go\nm[k](none2)\n# Not a heading\n```\n" +
			"[gone](none3.md), [gone heading](docs/a.md#none4), [commented](#not-a-heading)\n\n[ref]: none5.md\n",
		"docs/a.md":        "## Two words\n[up](../README.md)\n",
		"docs/b.md":        "[outside](../none6.md)",
		"testdata/skip.md": "[x](none7)",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := check(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"README.md: none3.md: no such file",
		"README.md: docs/a.md#none4: no such heading",
		"README.md: #not-a-heading: no such heading",
		"README.md: none5.md: no such file",
		"docs/b.md: ../none6.md: no such file",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
