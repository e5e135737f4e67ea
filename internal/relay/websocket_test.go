package relay_test

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/oidcauth/oidcauth/internal/relay"
)

// handshake is a browser's, changed by change.
func handshake(change func(r *http.Request)) *http.Request {
	r := &http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: header(
		"Connection", "keep-alive, Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Origin", "https://app.example.com",
	)}
	change(r)
	return r
}

// S13 [P2], S30, THR-58, golang/go#80416
func TestWebSocket(t *testing.T) {
	t.Parallel()
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	set := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
	}
	drop := func(names ...string) func(*http.Request) {
		return func(r *http.Request) {
			for _, name := range names {
				r.Header.Del(name)
			}
		}
	}
	for name, tt := range map[string]struct {
		change       func(*http.Request)
		asked, valid bool
	}{
		"a browser's":             {func(*http.Request) {}, true, true},
		"in capitals":             {set("Upgrade", "WebSocket"), true, true},
		"Connection on two lines": {set("Connection", "keep-alive", "upgrade"), true, true},
		"with a protocol":         {set("Sec-WebSocket-Protocol", "v1", "v2"), true, true},

		"h2c":                      {set("Upgrade", "h2c"), true, false},
		"two protocols":            {set("Upgrade", "websocket, h2c"), true, false},
		"two lines":                {set("Upgrade", "websocket", "h2c"), true, false},
		"websocket twice":          {set("Upgrade", "websocket", "websocket"), true, false},
		"a version in the name":    {set("Upgrade", "websocket/13"), true, false},
		"a space":                  {set("Upgrade", "websocket "), true, false},
		"nothing named":            {set("Upgrade", ""), true, false},
		"Connection alone":         {drop("Upgrade"), true, false},
		"Upgrade alone":            {drop("Connection"), true, false},
		"Connection without it":    {set("Connection", "keep-alive"), true, false},
		"HTTP2-Settings too":       {set("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"), true, false},
		"HTTP2-Settings, empty":    {set("HTTP2-Settings", ""), true, false},
		"no key":                   {drop("Sec-WebSocket-Key"), true, false},
		"two keys":                 {set("Sec-WebSocket-Key", key, key), true, false},
		"a short key":              {set("Sec-WebSocket-Key", "dGhl"), true, false},
		"no base64":                {set("Sec-WebSocket-Key", "the sample nonce 1234567"), true, false},
		"no version":               {drop("Sec-WebSocket-Version"), true, false},
		"a version that is no one": {set("Sec-WebSocket-Version", "777"), true, false},
		"POST":                     {func(r *http.Request) { r.Method = http.MethodPost }, true, false},
		"HEAD":                     {func(r *http.Request) { r.Method = http.MethodHead }, true, false},
		"HTTP/1.0":                 {func(r *http.Request) { r.ProtoMinor = 0 }, true, false},
		"HTTP/2":                   {func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 2, 0 }, true, false},
		"HTTP/2.1":                 {func(r *http.Request) { r.ProtoMajor = 2 }, true, false},
		"a body":                   {func(r *http.Request) { r.ContentLength = 5 }, true, false},
		"a body of unknown length": {func(r *http.Request) { r.ContentLength = -1 }, true, false},
		"chunks":                   {func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }, true, false},

		"HTTP2-Settings alone": {
			func(r *http.Request) { r.Header = header("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA") }, true, false,
		},
		"no upgrade":    {func(r *http.Request) { r.Header = header("Connection", "keep-alive") }, false, false},
		"no connection": {func(r *http.Request) { r.Header = header("Sec-WebSocket-Key", "x") }, false, false},
	} {
		if asked, valid := relay.WebSocket(handshake(tt.change)); asked != tt.asked || valid != tt.valid {
			t.Errorf("%s: asked %v, valid %v", name, asked, valid)
		}
	}
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	in := handshake(func(r *http.Request) {
		r.Header["Sec-Websocket-Protocol"] = []string{"v1", "v2"}
		r.Header.Set("Cookie", "a=b")
		r.Header.Set("HTTP2-Settings", "x")
	}).Header
	out := header("Accept", "*/*", "Upgrade", "h2c", "Sec-WebSocket-Extensions", "stale")
	relay.Handshake(out, in)
	want := header("Accept", "*/*", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol", "v1", "Sec-WebSocket-Protocol", "v2")
	if !equal(out, want) {
		t.Errorf("%v, want %v", out, want)
	}
}

// Only the word itself makes a handshake valid, whatever else stands around it.
func FuzzWebSocket(f *testing.F) {
	f.Add("websocket", "Upgrade", "")
	f.Add("h2c", "Upgrade, HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
	f.Add("websocket, h2c", "upgrade", "")
	f.Fuzz(func(t *testing.T, upgrade, connection, settings string) {
		asked, valid := relay.WebSocket(handshake(func(r *http.Request) {
			r.Header.Set("Upgrade", upgrade)
			r.Header.Set("Connection", connection)
			if settings != "" {
				r.Header.Set("HTTP2-Settings", settings)
			}
		}))
		isWord := len(upgrade) == len("websocket") && bytes.EqualFold([]byte(upgrade), []byte("websocket"))
		if !asked || valid && (!isWord || settings != "") {
			t.Errorf("asked %v, valid %v", asked, valid)
		}
	})
}
