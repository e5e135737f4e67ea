package bearer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/oidcauth/oidcauth/internal/bearer"
)

const refusal = `Bearer error="invalid_token"`

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer closes the request's body, as a RoundTripper has to, and leaves Response.Request to the Transport.
func answer(r *http.Request, status int, header http.Header) *http.Response {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody}
}

// constant is a source of the token "first", and of "second" instead of it.
func constant(_ context.Context, refused string) (string, error) {
	if refused == "first" {
		return "second", nil
	}
	return "first", nil
}

func request(t *testing.T, target string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func send(t *testing.T, rt http.RoundTripper, r *http.Request) *http.Response {
	t.Helper()
	resp, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestTheTokenStaysAtItsOrigin(t *testing.T) { // THR-57, HYG-04, CVE-2025-4673
	t.Parallel()
	const api, other, evil, plain = "https://api.test", "https://other.test:8443", "https://evil.test", "http://api.test"
	own, both, all := []string{api}, []string{api, other, plain}, []string(nil)
	tests := []struct {
		name    string
		origins []string
		hops    []string // the first request and the redirects that follow
		want    string   // at each hop: T for the token, - for no Authorization
	}{
		{"own", own, []string{api}, "T"},
		{"one of several", both, []string{other}, "T"},
		{"host in capitals", own, []string{"HTTPS://API.Test"}, "T"},
		{"default port", own, []string{api + ":443"}, "T"},
		{"another host", own, []string{evil}, "-"},
		{"another port", own, []string{api + ":8443"}, "-"},
		{"a port that begins with the default one", own, []string{api + ":4430"}, "-"},
		{"another scheme", own, []string{plain}, "-"},
		{"the other scheme's port", own, []string{plain + ":443"}, "-"},
		{"subdomain", own, []string{"https://a.api.test"}, "-"},
		{"own as a subdomain", own, []string{"https://api.test.evil.test"}, "-"},
		{"own with a dot", own, []string{"https://api.test."}, "-"},
		{"a letter that only looks like one", own, []string{"https://\u0430pi.test"}, "-"},
		{"all", all, []string{evil}, "T"},

		{"redirect within", own, []string{api, api, api + ":443"}, "TTT"},
		{"redirect away", own, []string{api, evil}, "T-"},
		{"away and back", own, []string{api, evil, api}, "T--"},
		{"away, back and on", own, []string{api, evil, api, api}, "T---"},
		{"from elsewhere", own, []string{evil, api}, "--"},
		{"from elsewhere and on", own, []string{evil, api, api}, "---"},
		{"to another one of several", both, []string{api, other}, "T-"},
		{"there and back", both, []string{api, other, api}, "T--"},
		{"to http", both, []string{api, plain}, "T-"},
		{"to another port", both, []string{other, "https://other.test:8444", other}, "T--"},
		{"all, away", all, []string{api, evil}, "T-"},
		{"all, away and back", all, []string{api, evil, api}, "T--"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			base := roundTrip(func(r *http.Request) (*http.Response, error) {
				switch auth := r.Header.Get("Authorization"); auth {
				case "Bearer first":
					got += "T"
				case "":
					got += "-"
				default:
					got += auth
				}
				next, _ := strconv.Atoi(r.URL.Path[1:])
				if next++; next == len(tt.hops) {
					return answer(r, 200, nil), nil
				}
				return answer(r, 307, http.Header{"Location": {tt.hops[next] + "/" + strconv.Itoa(next)}}), nil
			})
			c := http.Client{Transport: &bearer.Transport{Base: base, Token: constant, Origins: tt.origins}}
			resp, err := c.Do(request(t, tt.hops[0]+"/0", strings.NewReader("body")))
			if err != nil || resp.StatusCode != 200 || got != tt.want {
				t.Errorf("got %q, want %q; %v", got, tt.want, err)
			}
		})
	}
}

func TestWhatCannotBeTracedGetsNoToken(t *testing.T) {
	t.Parallel()
	loop := &http.Response{}
	tests := map[string]func(*http.Request){
		"redirect by an unknown request": func(r *http.Request) { r.Response = &http.Response{} },
		"redirect by one without a URL":  func(r *http.Request) { r.Response = &http.Response{Request: &http.Request{}} },
		"redirect by itself":             func(r *http.Request) { loop.Request, r.Response = r, loop },
		"no URL":                         func(r *http.Request) { r.URL = nil },
		"no host":                        func(r *http.Request) { r.URL.Host = "" },
		"opaque":                         func(r *http.Request) { r.URL.Opaque = "//evil.test/" },
		"another scheme":                 func(r *http.Request) { r.URL.Scheme = "ftp" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := roundTrip(func(r *http.Request) (*http.Response, error) {
				if auth := r.Header.Get("Authorization"); auth != "" {
					t.Errorf("Authorization: %s", auth)
				}
				return answer(r, 200, nil), nil
			})
			r := request(t, "https://api.test/", nil)
			change(r)
			send(t, &bearer.Transport{Base: base, Token: constant}, r)
		})
	}
}

func TestTheCallersOwnAuthorization(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{"https://api.test": "Bearer first", "https://evil.test": "Basic own"} {
		base := roundTrip(func(r *http.Request) (*http.Response, error) {
			if got := r.Header.Values("Authorization"); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: Authorization %q, want %q", target, got, want)
			}
			return answer(r, 200, nil), nil
		})
		r := request(t, target, nil)
		r.Header["Authorization"] = []string{"Basic own"}
		send(t, &bearer.Transport{Base: base, Token: constant, Origins: []string{"https://api.test"}}, r)
	}
}

func TestTheRequestIsNotChanged(t *testing.T) {
	t.Parallel()
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		r.Header.Add("X", "changed below")
		return answer(r, 401, http.Header{"Www-Authenticate": {refusal}}), nil
	})
	r := request(t, "https://api.test", strings.NewReader("body"))
	r.Header.Set("X", "1")
	body := r.Body
	resp := send(t, &bearer.Transport{Base: base, Token: constant}, r)
	if len(r.Header) != 1 || len(r.Header["X"]) != 1 || r.Body != body {
		t.Errorf("the request became %v", r.Header)
	}
	if resp.Request != r { // whoever logs it has no token
		t.Errorf("the response names a request with %v", resp.Request.Header)
	}
	r.Header = nil
	send(t, &bearer.Transport{Base: base, Token: constant}, r) // does not panic
}

func TestATokenThatCannotBeHad(t *testing.T) {
	t.Parallel()
	known := errors.New("sign in again")
	tests := map[string]func(context.Context, string) (string, error){
		"error":     func(context.Context, string) (string, error) { return "secret", known },
		"empty":     func(context.Context, string) (string, error) { return "", nil },
		"no source": nil,
	}
	for name, source := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := roundTrip(func(*http.Request) (*http.Response, error) {
				t.Error("the request was sent")
				return nil, known
			})
			body := &stream{Reader: strings.NewReader("body")}
			c := http.Client{Transport: &bearer.Transport{Base: base, Token: source}}
			_, err := c.Do(request(t, "https://api.test", body))
			if err == nil || errors.Is(err, known) != (name == "error") || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v", err)
			}
			if !body.closed {
				t.Error("the body is left open")
			}
		})
	}
}

// A stream is a body of which a Transport can know nothing, and that counts what is read.
type stream struct {
	io.Reader
	read   int
	closed bool
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	s.read += n
	return n, err
}

func (s *stream) Close() error {
	s.closed = true
	return nil
}

func TestARefusedTokenIsReplacedOnce(t *testing.T) { // THR-59, behaviour 8
	t.Parallel()
	broken := errors.New("broken")
	second := func(token string, err error) func(context.Context, string) (string, error) {
		return func(_ context.Context, refused string) (string, error) {
			if refused == "" {
				return "first", nil
			}
			return token, err
		}
	}
	plain := func(r *http.Request) {}
	noBody := func(r *http.Request) { r.Body, r.GetBody, r.ContentLength = nil, nil, 0 }
	tests := []struct {
		name   string
		source func(context.Context, string) (string, error)
		change func(*http.Request)
		asked  int    // for another token
		sent   string // tokens and bodies
	}{
		{"another token", constant, plain, 1, "first:body second:body"},
		{"no body", constant, noBody, 1, "first: second:"},
		{"empty body", constant, func(r *http.Request) { noBody(r); r.Body = http.NoBody }, 1, "first: second:"},
		{"body that streams", constant, func(r *http.Request) { r.GetBody = nil }, 0, "first:body"},
		{"body that is gone", constant, func(r *http.Request) {
			r.GetBody = func() (io.ReadCloser, error) { return nil, broken }
		}, 0, "first:body"},
		{"same token", second("first", nil), plain, 1, "first:body"},
		{"no other token", second("", broken), plain, 1, "first:body"},
		{"token beside an error", second("third", broken), plain, 1, "first:body"},
		{"empty token", second("", nil), plain, 1, "first:body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var (
				sent    []string
				asked   int
				answers []*stream
			)
			base := roundTrip(func(r *http.Request) (*http.Response, error) {
				body := ""
				if r.Body != nil {
					b, _ := io.ReadAll(r.Body)
					body = string(b)
				}
				sent = append(sent, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+":"+body)
				resp := answer(r, 401, http.Header{"Www-Authenticate": {refusal}})
				answers = append(answers, &stream{Reader: strings.NewReader(strings.Repeat("x", 1<<20))})
				resp.Body = answers[len(answers)-1]
				return resp, nil
			})
			source := func(ctx context.Context, refused string) (string, error) {
				if refused != "" {
					asked++
				}
				return tt.source(ctx, refused)
			}
			r := request(t, "https://api.test", strings.NewReader("body"))
			tt.change(r)
			var copies []*stream
			if get := r.GetBody; get != nil {
				r.GetBody = func() (io.ReadCloser, error) {
					body, err := get()
					if err != nil {
						return nil, err
					}
					copies = append(copies, &stream{Reader: body})
					return copies[len(copies)-1], nil
				}
			}
			resp := send(t, &bearer.Transport{Base: base, Token: source}, r)
			if got := strings.Join(sent, " "); got != tt.sent || asked != tt.asked {
				t.Errorf("sent %q after asking %d times, want %q after %d", got, asked, tt.sent, tt.asked)
			}
			last := answers[len(answers)-1]
			if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != refusal || resp.Body != last ||
				last.read != 0 || last.closed {
				t.Error("the last response is not passed on as it came")
			}
			if first := answers[0]; first != last && (!first.closed || first.read == 0 || first.read > 4<<10) {
				t.Errorf("of the first response %d bytes were read, closed: %v", first.read, first.closed)
			}
			if slices.ContainsFunc(copies, func(s *stream) bool { return !s.closed }) {
				t.Error("a copy of the body is left open")
			}
		})
	}
}

func TestTheSecondTokenIsUsed(t *testing.T) {
	t.Parallel()
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "Bearer second" {
			return answer(r, 401, http.Header{"Www-Authenticate": {refusal}}), nil
		}
		return answer(r, 200, nil), nil
	})
	transport := &bearer.Transport{Base: base, Token: constant}
	if resp := send(t, transport, request(t, "https://api.test", nil)); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestAnotherRequestsTokenIsNotAskedFor(t *testing.T) { // where no token was sent, none was refused
	t.Parallel()
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		return answer(r, 401, http.Header{"Www-Authenticate": {refusal}}), nil
	})
	source := func(context.Context, string) (string, error) {
		t.Error("a token was asked for")
		return "", nil
	}
	send(t, &bearer.Transport{Base: base, Token: source, Origins: []string{"https://api.test"}},
		request(t, "https://evil.test", nil))
}

func TestALargeStreamIsSentOnce(t *testing.T) {
	t.Parallel()
	const size = 10 << 20
	var sent int64
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		n, err := io.Copy(io.Discard, r.Body)
		sent += n
		return answer(r, 401, http.Header{"Www-Authenticate": {refusal}}), err
	})
	body := &stream{Reader: io.LimitReader(zeros{}, size)}
	c := http.Client{Transport: &bearer.Transport{Base: base, Token: constant}}
	resp, err := c.Do(request(t, "https://api.test", body))
	if err != nil || resp.StatusCode != 401 || sent != size || !body.closed {
		t.Errorf("%d bytes were sent, want %d; closed: %v, %v", sent, size, body.closed, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestFailuresBelowArePassedOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, good := range []int{0, 1} { // how many answers there are before
		sent := 0
		base := roundTrip(func(r *http.Request) (*http.Response, error) {
			if sent++; sent > good {
				return nil, broken
			}
			return answer(r, 401, http.Header{"Www-Authenticate": {refusal}}), nil
		})
		resp, err := (&bearer.Transport{Base: base, Token: constant}).RoundTrip(request(t, "https://api.test", nil))
		if resp != nil || !errors.Is(err, broken) || sent != good+1 {
			t.Errorf("after %d answers: %v, %d requests", good, err, sent)
		}
	}
	nothing := roundTrip(func(*http.Request) (*http.Response, error) { return nil, nil }) // net/http says what that is
	c := http.Client{Transport: &bearer.Transport{Base: nothing, Token: constant}}
	if _, err := c.Do(request(t, "https://api.test", nil)); err == nil {
		t.Error("no response and no error")
	}
}

type userKey struct{}

func TestNobodyGetsTheTokenOfAnother(t *testing.T) { // THR-19
	t.Parallel()
	token := func(ctx context.Context, refused string) (string, error) {
		user := fmt.Sprint(ctx.Value(userKey{}))
		if refused == "" {
			return user, nil
		}
		return refused + "-again", nil
	}
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		user, got := r.Header.Get("User"), r.Header.Get("Authorization")
		switch got {
		case "Bearer " + user:
			return answer(r, 401, http.Header{"Www-Authenticate": {refusal}}), nil
		case "Bearer " + user + "-again":
			return answer(r, 200, nil), nil
		}
		t.Errorf("user %s with %s", user, got)
		return answer(r, 403, nil), nil
	})
	c := http.Client{Transport: &bearer.Transport{Base: base, Token: token, Origins: []string{"https://api.test"}}}
	shared := http.Header{"Accept": {"application/json"}}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			user := "user-" + strconv.Itoa(i)
			ctx := context.WithValue(t.Context(), userKey{}, user)
			for range 10 {
				r := request(t, "https://api.test", bytes.NewReader([]byte(user))).WithContext(ctx)
				r.Header = shared.Clone()
				r.Header.Set("User", user)
				resp, err := c.Do(r)
				if err != nil || resp.StatusCode != 200 {
					t.Errorf("%s: %v", user, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A vault is a Base that knows a secret, and can close its connections.
type vault struct {
	http.RoundTripper
	Secret string
	closed bool
}

func (v *vault) CloseIdleConnections() { v.closed = true }

func TestATransportPrintsNoSecret(t *testing.T) {
	t.Parallel()
	transport := bearer.Transport{Base: &vault{Secret: "s3cret"}, Token: constant, Origins: []string{"https://api.test"}}
	const want = `bearer.Transport{Origins: ["https://api.test"]}`
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, v := range []any{transport, &transport} {
			if got := fmt.Sprintf(verb, v); got != want {
				t.Errorf("%s of %T: %s", verb, v, got)
			}
		}
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	base := &vault{}
	(&http.Client{Transport: &bearer.Transport{Base: base}}).CloseIdleConnections()
	if !base.closed {
		t.Error("they are not")
	}
	(&bearer.Transport{Base: roundTrip(nil)}).CloseIdleConnections() // does not panic
}

func TestWithoutABaseTheDefaultOneIsUsed(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // before a socket is opened
	r := request(t, "https://api.test", nil).WithContext(ctx)
	if _, err := (&bearer.Transport{Token: constant}).RoundTrip(r); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestTheRequestsContextIsTheTokens(t *testing.T) {
	t.Parallel()
	ctx := context.WithValue(t.Context(), userKey{}, "alice")
	source := func(got context.Context, _ string) (string, error) {
		if got.Value(userKey{}) != "alice" {
			t.Error("another context")
		}
		return "first", nil
	}
	base := roundTrip(func(r *http.Request) (*http.Response, error) { return answer(r, 200, nil), nil })
	u := &url.URL{Scheme: "https", Host: "api.test"}
	r := (&http.Request{Method: http.MethodGet, URL: u}).WithContext(ctx) // without a header map
	send(t, &bearer.Transport{Base: base, Token: source}, r)
}

// A refusal whose body may never end is not waited for.
func TestARefusalThatNeverEndsIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		asked := 0
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			if asked++; asked > 1 {
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
			}
			return &http.Response{
				StatusCode: http.StatusUnauthorized, Body: r, ContentLength: -1, Request: req,
				Header: http.Header{"Www-Authenticate": {`Bearer error="invalid_token"`}},
			}, nil
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.test/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&bearer.Transport{Base: base, Token: constant}).RoundTrip(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("got %v, %v", resp, err)
		}
	})
}
