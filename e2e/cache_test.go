package e2e

import "testing"

// S13: what a script has fetched is in the browser's cache, from which a script element would be answered without a request
// that we could refuse.
func TestAFetchedScriptDoesNotRun(t *testing.T) {
	s := newSite(t, asItIs)
	p := s.signedIn(t)
	got := p.script(`
		for (const _ of [1, 2]) await (await fetch("/api/cached")).text();
		return await new Promise((done) => {
			const script = document.createElement("script");
			script.onload = () => done("loaded, and has run: " + window.ran);
			script.onerror = () => done("refused");
			script.src = "/api/cached";
			document.body.append(script);
		})`)
	if got != "refused" {
		t.Errorf("the script element was %s", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) != 1 {
		t.Errorf("the API was asked for %q: the cache was to answer the second time", s.asked)
	}
}
