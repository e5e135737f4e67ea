package devprovider

import (
	"fmt"
	"hash/fnv"
	"html"
	"net/http"
	"net/url"
	"strings"
)

// avatarPath is where u's picture is, below the issuer.
func avatarPath(u User) string { return "/avatar/" + url.PathEscape(u.Subject) }

// avatar draws the initials of a user on a colour of their own.
func (p *Provider) avatar(w http.ResponseWriter, r *http.Request) {
	u, ok := p.users.bySubject(r.PathValue("subject"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(u.Subject))
	h := w.Header()
	h.Set("Content-Type", "image/svg+xml")
	h.Set("Content-Security-Policy", "default-src 'none'") // opened by itself, a picture is a document
	fmt.Fprintf(w, avatarSVG, sum.Sum32()%360, html.EscapeString(initials(u.Name)))
}

const avatarSVG = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">
<rect width="72" height="72" fill="hsl(%d 45%% 42%%)"/>
<text x="36" y="46" font-family="system-ui,sans-serif" font-size="28" fill="#fff" text-anchor="middle">%s</text>
</svg>`

// initials are the first letters of the first and the last word of name.
func initials(name string) string {
	words := strings.Fields(name)
	if len(words) == 0 {
		return ""
	}
	first, last := []rune(words[0])[:1], []rune(words[len(words)-1])[:1]
	if len(words) == 1 {
		last = nil
	}
	return strings.ToUpper(string(append(first, last...)))
}
