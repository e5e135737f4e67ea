module github.com/oidcauth/oidcauth/e2e

go 1.26.0

replace github.com/oidcauth/oidcauth => ../

require (
	github.com/chromedp/chromedp v0.23.0
	github.com/nlnwa/whatwg-url v0.6.2
	github.com/oidcauth/oidcauth v0.0.0-00010101000000-000000000000
)

require (
	github.com/bits-and-blooms/bitset v1.20.0 // indirect
	github.com/chromedp/cdproto v0.159.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	golang.org/x/net v0.34.0 // indirect
	golang.org/x/text v0.21.0 // indirect
)
