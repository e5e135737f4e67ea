package fetch_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/oidcauth/oidcauth/internal/fetch"
)

// request makes one with header fields given as name, value, name, value …
func request(method string, fields ...string) *http.Request {
	r := httptest.NewRequest(method, "https://app.example.com/", nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func metadata(site, mode, dest string) []string {
	return []string{"Sec-Fetch-Site", site, "Sec-Fetch-Mode", mode, "Sec-Fetch-Dest", dest}
}

const (
	mode   = "Sec-Fetch-Mode"
	dest   = "Sec-Fetch-Dest"
	html   = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	accept = "Accept"
)

// What a request is taken for: a navigation of a tab, one to show a page to, one to start a login for. Lessons 11, 28
// and 38, S19, S26.
func TestKindsOfRequest(t *testing.T) {
	t.Parallel()
	type kind struct{ topLevel, page, login bool }
	var (
		tab      = kind{topLevel: true, page: true, login: true}
		noLogin  = kind{topLevel: true, page: true}
		program  = kind{topLevel: true} // nothing says that it is a subresource
		frame    = kind{}               // it shows no page of ours
		resource = kind{}
	)
	for name, tt := range map[string]struct {
		r    *http.Request
		want kind
	}{
		// By Fetch metadata, whatever Accept says.
		"typed address":        {request("GET", metadata("none", "navigate", "document")...), tab},
		"link on the site":     {request("GET", metadata("same-origin", "navigate", "document")...), tab},
		"link on another site": {request("GET", metadata("cross-site", "navigate", "document")...), tab},
		"form":                 {request("POST", metadata("same-origin", "navigate", "document")...), tab},
		"tab that accepts JSON": {
			request("GET", append(metadata("none", "navigate", "document"), accept, "application/json")...), tab,
		},
		"tab that says XMLHttpRequest": {
			request("GET", append(metadata("none", "navigate", "document"), "X-Requested-With", "x")...), tab,
		},
		"mode alone":            {request("GET", mode, "navigate"), tab},
		"HEAD of a tab":         {request("HEAD", metadata("none", "navigate", "document")...), noLogin},
		"PUT of a tab":          {request("PUT", metadata("none", "navigate", "document")...), noLogin},
		"frame":                 {request("GET", metadata("same-origin", "navigate", "iframe")...), frame},
		"frame of another site": {request("GET", metadata("cross-site", "navigate", "iframe")...), frame},
		"old frame":             {request("GET", metadata("cross-site", "navigate", "frame")...), frame},
		"fenced frame":          {request("GET", metadata("cross-site", "navigate", "fencedframe")...), frame},
		"object":                {request("GET", metadata("same-origin", "navigate", "object")...), frame},
		"embed":                 {request("GET", metadata("same-origin", "navigate", "embed")...), frame},
		"fetch":                 {request("GET", metadata("same-origin", "cors", "empty")...), resource},
		"fetch that accepts HTML": {
			request("GET", append(metadata("same-origin", "cors", "empty"), accept, html)...), resource,
		},
		"fetch without CORS":      {request("GET", metadata("cross-site", "no-cors", "empty")...), resource},
		"fetch, same origin only": {request("GET", metadata("same-origin", "same-origin", "empty")...), resource},
		"image":                   {request("GET", metadata("cross-site", "no-cors", "image")...), resource},
		"script":                  {request("GET", metadata("same-origin", "no-cors", "script")...), resource},
		"service worker": {
			request("GET", metadata("same-origin", "same-origin", "serviceworker")...), resource,
		},
		"mode no-cors to a document":    {request("GET", metadata("same-origin", "no-cors", "document")...), resource},
		"destination alone, an image":   {request("GET", dest, "image", accept, html), kind{page: true}},
		"destination alone, a document": {request("GET", dest, "document", accept, html), tab},

		// By Accept, where there is none: old browsers, plain http, programs.
		"old browser":                  {request("GET", accept, html), tab},
		"old browser's form":           {request("POST", accept, html), tab},
		"old browser's HEAD":           {request("HEAD", accept, html), noLogin},
		"old browser's script, DELETE": {request("DELETE", accept, html), noLogin},
		"old browser's script, PUT":    {request("PUT", accept, html), noLogin},
		"old browser's jQuery for HTML": {
			request("GET", accept, "text/html, */*; q=0.01", "X-Requested-With", "XMLHttpRequest"), program,
		},
		"old browser's fetch":    {request("GET", accept, "*/*"), program},
		"axios":                  {request("GET", accept, "application/json, text/plain, */*"), program},
		"event source":           {request("GET", accept, "text/event-stream"), program},
		"curl":                   {request("GET", accept, "*/*", "User-Agent", "curl/8.5.0"), program},
		"nothing said":           {request("GET"), program},
		"preflight":              {request("OPTIONS", metadata("cross-site", "cors", "empty")...), resource},
		"old browser's prefetch": {request("GET", accept, html, "X-Moz", "prefetch"), noLogin},
		"prefetch": {
			request("GET", append(metadata("same-origin", "navigate", "document"), "Sec-Purpose", "prefetch")...), noLogin,
		},
		"prerender": {
			request("GET", append(metadata("same-origin", "navigate", "document"), "Sec-Purpose", "prefetch;prerender")...),
			noLogin,
		},
		"WebSocket": {
			request("GET", append(metadata("same-origin", "websocket", "websocket"), "Upgrade", "websocket")...), resource,
		},
		"old browser's WebSocket":         {request("GET", "Upgrade", "websocket"), program},
		"WebSocket that accepts HTML":     {request("GET", accept, html, "Upgrade", "websocket"), noLogin},
		"navigation to another protocol":  {request("GET", accept, html, "Upgrade", "h2c"), tab},
		"navigation, WebSocket or other":  {request("GET", accept, html, "Upgrade", "h2c, websocket"), noLogin},
		"navigation that is to be secure": {request("GET", accept, html, "Upgrade-Insecure-Requests", "1"), tab},
	} {
		got := kind{topLevel: fetch.IsTopLevel(tt.r), page: fetch.WantsPage(tt.r), login: fetch.StartsLogin(tt.r)}
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// Lesson 11, S24, S26
func TestPrefetches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, value string
		want        bool
	}{
		{"Sec-Purpose", "prefetch", true},
		{"Sec-Purpose", "prefetch;prerender", true},
		{"Sec-Purpose", "prefetch;anonymous-client-ip", true},
		{"Sec-Purpose", "prerender", true},
		{"Purpose", "prefetch", true},
		{"X-Moz", "prefetch", true},
		{"Sec-Purpose", "", false},
		{"Purpose", "preview", false},
		{"X-Other", "prefetch", false},
		{"Sec-Fetch-Dest", "prefetch", false},
	} {
		if got := fetch.IsPrefetch(request("GET", tt.name, tt.value)); got != tt.want {
			t.Errorf("%s: %s: %v, want %v", tt.name, tt.value, got, tt.want)
		}
	}
	if fetch.IsPrefetch(request("GET")) {
		t.Error("a request that says nothing is none")
	}
}

// S30: a handshake is a GET that no cross-origin check sees, so that none may be missed.
func TestWebSockets(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		r    *http.Request
		want bool
	}{
		"by Fetch metadata":      {request("GET", mode, "websocket"), true},
		"by Upgrade":             {request("GET", "Upgrade", "websocket"), true},
		"in capitals":            {request("GET", "Upgrade", "WebSocket"), true},
		"in a list":              {request("GET", "Upgrade", "h2c, WebSocket"), true},
		"on a second line":       {request("GET", "Upgrade", "h2c", "Upgrade", "websocket"), true},
		"with its version":       {request("GET", "Upgrade", "websocket/13"), true},
		"another protocol":       {request("GET", "Upgrade", "h2c"), false},
		"a navigation":           {request("GET", mode, "navigate"), false},
		"nothing said":           {request("GET"), false},
		"the word anywhere else": {request("GET", "Connection", "websocket"), false},
	} {
		if got := fetch.IsWebSocket(tt.r); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// S13, S29, S30, BFF-06: what a page of ours sent, by all methods alike.
func TestSameOrigin(t *testing.T) {
	t.Parallel()
	const (
		ours    = "https://app.example.com"
		sibling = "https://blog.example.com"
		xhr     = "X-Requested-With"
		origin  = "Origin"
	)
	var (
		tokens  = fetch.Allowed{} // as the access-token route asks
		proxy   = fetch.Allowed{Origin: true}
		images  = fetch.Allowed{Origin: true, Destinations: []string{"image"}}
		sockets = fetch.Allowed{Origin: true, WebSocket: true}
	)
	with := func(fields []string, more ...string) []string { return append(fields, more...) }
	script := func(more ...string) []string { return with(metadata("same-origin", "cors", "empty"), more...) }
	socket := func(more ...string) []string {
		return with([]string{"Upgrade", "websocket", mode, "websocket"}, more...)
	}
	asOurs := []string{xhr, "x", origin, ours}
	for name, tt := range map[string]struct {
		fields  []string
		allowed fetch.Allowed
		want    bool
	}{
		// With Fetch metadata nothing else counts.
		"fetch":                       {script(), tokens, true},
		"fetch, through the proxy":    {script(), proxy, true},
		"fetch, mode same-origin":     {metadata("same-origin", "same-origin", "empty"), tokens, true},
		"beacon":                      {metadata("same-origin", "no-cors", "empty"), tokens, true},
		"metadata without mode, dest": {[]string{"Sec-Fetch-Site", "same-origin"}, tokens, true},
		"of a sibling":                {metadata("same-site", "cors", "empty"), proxy, false},
		"of a sibling, as ours":       {with(metadata("same-site", "cors", "empty"), asOurs...), proxy, false},
		"of another site":             {metadata("cross-site", "cors", "empty"), proxy, false},
		"of another site, as ours":    {with(metadata("cross-site", "cors", "empty"), asOurs...), proxy, false},
		"typed address":               {metadata("none", "navigate", "document"), proxy, false},
		"site none":                   {metadata("none", "cors", "empty"), proxy, false},
		"site in capitals":            {metadata("Same-Origin", "cors", "empty"), proxy, false},
		"site as a list":              {metadata("same-origin, cross-site", "cors", "empty"), proxy, false},
		"site twice":                  {script("Sec-Fetch-Site", "cross-site"), proxy, false},
		"mode twice":                  {script(mode, "cors"), proxy, false},
		"destination twice":           {script(dest, "empty"), proxy, false},
		"Origin twice":                {script(origin, ours, origin, ours), proxy, false},
		"X-Requested-With twice":      {script(xhr, "x", xhr, "x"), proxy, false},

		// Never what a browser would show or run.
		"link":                       {metadata("same-origin", "navigate", "document"), images, false},
		"link with a header":         {with(metadata("same-origin", "navigate", "document"), xhr, "x"), images, false},
		"navigation to an image":     {metadata("same-origin", "navigate", "image"), images, false},
		"frame":                      {metadata("same-origin", "navigate", "iframe"), images, false},
		"object":                     {metadata("same-origin", "no-cors", "object"), images, false},
		"embed":                      {metadata("same-origin", "no-cors", "embed"), images, false},
		"script":                     {metadata("same-origin", "no-cors", "script"), images, false},
		"worker":                     {metadata("same-origin", "same-origin", "worker"), images, false},
		"service worker":             {metadata("same-origin", "same-origin", "serviceworker"), images, false},
		"image":                      {metadata("same-origin", "no-cors", "image"), images, true},
		"image, not allowed":         {metadata("same-origin", "no-cors", "image"), proxy, false},
		"image of another site":      {metadata("cross-site", "no-cors", "image"), images, false},
		"fetch where images are too": {script(), images, true},
		"mode unknown":               {metadata("same-origin", "webtransport", "empty"), images, false},
		"navigation, no site":        {[]string{mode, "navigate", xhr, "x"}, images, false},
		"destination frame, no site": {[]string{dest, "iframe", origin, ours}, images, false},

		// Without it: old browsers, plain http.
		"nothing":                         {nil, proxy, false},
		"nothing, tokens":                 {nil, tokens, false},
		"header":                          {[]string{xhr, "XMLHttpRequest"}, tokens, true},
		"header, through the proxy":       {[]string{xhr, "XMLHttpRequest"}, proxy, true},
		"header, empty":                   {[]string{xhr, ""}, proxy, false},
		"header and our origin":           {[]string{xhr, "x", origin, ours}, tokens, true},
		"header and a sibling":            {[]string{xhr, "x", origin, sibling}, proxy, false},
		"header and null":                 {[]string{xhr, "x", origin, "null"}, proxy, false},
		"our origin":                      {[]string{origin, ours}, proxy, true},
		"our origin, tokens":              {[]string{origin, ours}, tokens, false},
		"our origin over http":            {[]string{origin, "http://app.example.com"}, proxy, false},
		"our origin with a port":          {[]string{origin, ours + ":443"}, proxy, false},
		"our origin with a slash":         {[]string{origin, ours + "/"}, proxy, false},
		"an origin that begins like ours": {[]string{origin, ours + ".evil.example"}, proxy, false},
		"a sibling":                       {[]string{origin, sibling}, proxy, false},
		"null":                            {[]string{origin, "null"}, proxy, false},
		"two origins":                     {[]string{origin, ours, origin, sibling}, proxy, false},
		"Referer":                         {[]string{"Referer", ours + "/"}, proxy, false},

		// THR-58: a handshake is judged by its origin.
		"socket": {
			socket(dest, "websocket", "Sec-Fetch-Site", "same-origin", origin, ours), sockets, true,
		},
		"socket, destination empty": {
			socket(dest, "empty", "Sec-Fetch-Site", "same-origin", origin, ours), sockets, true,
		},
		"socket, no metadata":          {[]string{"Upgrade", "websocket", origin, ours}, sockets, true},
		"socket, not allowed":          {socket("Sec-Fetch-Site", "same-origin", origin, ours), proxy, false},
		"socket, tokens":               {socket(with(asOurs, "Sec-Fetch-Site", "same-origin")...), tokens, false},
		"socket, no metadata, tokens":  {[]string{"Upgrade", "websocket", origin, ours, xhr, "x"}, tokens, false},
		"socket of nobody":             {[]string{"Upgrade", "websocket", xhr, "x"}, sockets, false},
		"socket of nobody, metadata":   {socket("Sec-Fetch-Site", "same-origin"), sockets, false},
		"socket of null":               {socket("Sec-Fetch-Site", "same-origin", origin, "null"), sockets, false},
		"socket of a sibling":          {socket("Sec-Fetch-Site", "same-site", origin, sibling), sockets, false},
		"socket of a sibling, no site": {[]string{"Upgrade", "websocket", origin, sibling}, sockets, false},
		"socket of ours over http":     {socket(origin, "http://app.example.com"), sockets, false},
		"socket of a site as ours":     {socket("Sec-Fetch-Site", "cross-site", origin, ours), sockets, false},
		"socket by navigation": {
			with(metadata("same-origin", "navigate", "document"), "Upgrade", "websocket", origin, ours), sockets, false,
		},
		"socket to an image":          {socket(dest, "image", origin, ours), sockets, false},
		"fetch where sockets are too": {script(), sockets, true},
		"two origins of a socket":     {[]string{"Upgrade", "websocket", origin, ours, origin, ours}, sockets, false},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
			if got := fetch.IsSameOrigin(request(method, tt.fields...), ours, tt.allowed); got != tt.want {
				t.Errorf("%s %s: %v, want %v", method, name, got, tt.want)
			}
		}
	}
}

// S13: what is added runs nothing on our origin.
func TestDestinations(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"empty", "image", "audio", "video", "track", "font"} {
		if err := fetch.CheckDestination(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{
		"", "document", "iframe", "frame", "fencedframe", "object", "embed", "script", "style", "worker",
		"sharedworker", "serviceworker", "audioworklet", "paintworklet", "manifest", "xslt", "report", "json",
		"websocket",
		"Image", "*",
	} {
		if fetch.CheckDestination(name) == nil {
			t.Errorf("%q passes", name)
		}
	}
}
