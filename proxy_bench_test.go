package oidcauth_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/oidcauth/oidcauth"
)

// BenchmarkProxy compares with a ReverseProxy that only sets the URL and a token.
func BenchmarkProxy(b *testing.B) {
	answered := &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	content := bytes.Repeat([]byte("x"), 1000)
	api := benchTransport(func(r *http.Request) (*http.Response, error) {
		resp := *answered
		resp.Header = http.Header{"Content-Type": {"application/json"}, "Etag": {`"1"`}, "Date": {"x"}}
		resp.Body, resp.ContentLength, resp.Request = io.NopCloser(bytes.NewReader(content)), int64(len(content)), r
		return &resp, nil
	})
	f := newBFF(b, oidcauth.ProxyOptions{}, func(o *oidcauth.Options) {
		next := o.HTTPClient.Transport
		o.HTTPClient = &http.Client{Transport: benchTransport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "api.test" {
				return api(r)
			}
			return next.RoundTrip(r)
		})}
	})
	target := &url.URL{Scheme: "https", Host: "api.test", Path: "/v1/"}
	bare := http.StripPrefix("/api", &httputil.ReverseProxy{Transport: api, Rewrite: func(pr *httputil.ProxyRequest) {
		pr.SetURL(target)
		pr.Out.Header.Set("Authorization", "Bearer x")
	}})
	for name, h := range map[string]http.Handler{"bare": bare, "ours": f.proxy, "ours below Wrap": f.Wrap(f.proxy)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r := f.request("GET", "/api/users?a=1", "", "User-Agent", "x", "Accept", "*/*", "Accept-Language", "en")
			r.Body, r.ContentLength = http.NoBody, 0
			ctx := b.Context()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r.WithContext(ctx))
				if w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
}

type benchTransport func(*http.Request) (*http.Response, error)

func (f benchTransport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
