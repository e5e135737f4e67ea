package bearer_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/bearer"
)

func TestOriginsThatPeopleWrite(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://api.test":          "https://api.test",
		"HTTPS://API.Test":          "https://api.test",
		"https://api.test:443":      "https://api.test",
		"https://api.test:":         "https://api.test",
		"https://api.test:80":       "https://api.test:80",
		"https://api.test:4430":     "https://api.test:4430",
		"http://api.test:80":        "http://api.test",
		"http://127.0.0.1:8080":     "http://127.0.0.1:8080",
		"http://[::1]":              "http://[::1]",
		"http://[::1]:80":           "http://[::1]",
		"http://[2001:DB8::1]:8080": "http://[2001:db8::1]:8080",
		"http://my_api-1:8080":      "http://my_api-1:8080",
	} {
		if got, err := bearer.ParseOrigin(in); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestWhatIsNoOrigin(t *testing.T) {
	t.Parallel()
	const absolute, scheme, host, port = "absolute", "https://", "wildcards", "65535"
	const more = `write "https://api.test"`
	for in, want := range map[string]string{
		"":                            absolute,
		"api.test":                    absolute,
		"api.test:443":                absolute,
		"//":                          absolute,
		"/":                           absolute,
		"https:api.test":              absolute,
		"https:///x":                  absolute,
		" https://api.test":           absolute,
		"https://api.test ":           absolute,
		"https://api.test\n":          absolute,
		"https://api.test:x":          absolute,
		"//api.test":                  scheme,
		"ftp://api.test":              scheme,
		"wss://api.test":              scheme,
		"https://*.api.test":          host,
		"https://*":                   host,
		"https://b\u00fccher.test":    host,
		"https://:443":                host,
		"https://[fe80::1%25eth0]":    host,
		"https://a,b":                 host,
		"https://api.test:0":          port,
		"https://api.test:0443":       port,
		"https://api.test:65536":      port,
		"https://api.test/":           more,
		"https://api.test:443/v1":     more,
		"https://api.test?s3cret":     more,
		"https://api.test?":           more,
		"https://api.test#":           more,
		"https://me:s3cret@api.test":  more,
		"https://@api.test":           more,
		"https://s3cret@API.test/?#x": more,
	} {
		got, err := bearer.ParseOrigin(in)
		if got != "" || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %q, %v, want an error with %q", in, got, err, want)
		}
	}
}

func FuzzParseOrigin(f *testing.F) {
	f.Add("https://API.test:443")
	f.Add("http://[::1]:8080")
	f.Add("https://me@api.test/?#")
	f.Fuzz(func(t *testing.T, s string) {
		origin, err := bearer.ParseOrigin(s)
		if err != nil {
			return
		}
		if again, err := bearer.ParseOrigin(origin); again != origin || err != nil {
			t.Errorf("%q is written %q, and that %q, %v", s, origin, again, err)
		}
		u, err := url.Parse(origin + "/path?query")
		if err != nil || bearer.Origin(u) != origin {
			t.Errorf("%q is not the origin of its URLs: %v", origin, err)
		}
	})
}
