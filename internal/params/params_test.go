package params_test

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/oidcauth/oidcauth/internal/params"
)

type values = map[string]string

const form = "application/x-www-form-urlencoded"

// judge compares an answer with what is wanted: values, or words of an error.
func judge(t *testing.T, got values, err error, want values, words string) {
	t.Helper()
	switch {
	case words == "" && (err != nil || !maps.Equal(got, want)):
		t.Errorf("got %v, %v, want %v", got, err, want)
	case words != "" && (err == nil || !strings.Contains(err.Error(), words)):
		t.Errorf("got %v, %v, want an error with %q", got, err, words)
	case words != "" && len(got) > 0:
		t.Errorf("got %v beside the error", got)
	}
}

// Lesson 26: missing, repeated, empty or huge parameters never crash, and repeated ones are refused (RFC 6749 3.1).
func TestParse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		raw   string
		want  values
		words string
	}{
		"nothing":              {"", values{}, ""},
		"one":                  {"code=x", values{"code": "x"}, ""},
		"two":                  {"code=x&state=y", values{"code": "x", "state": "y"}, ""},
		"empty value":          {"code=", values{"code": ""}, ""},
		"no value":             {"federated", values{"federated": ""}, ""},
		"empty parts":          {"&&code=x&", values{"code": "x"}, ""},
		"decoded once":         {"a+b=c%2525%20d+e", values{"a b": "c%25 d e"}, ""},
		"an equals sign in it": {"a=b=c", values{"a": "b=c"}, ""},
		"names differ by case": {"State=x&state=y", values{"State": "x", "state": "y"}, ""},
		"not UTF-8":            {"a=%ff", values{"a": "\xff"}, ""},
		"as long as it may be": {
			"a=" + strings.Repeat("x", params.MaxSize-2), values{"a": strings.Repeat("x", params.MaxSize-2)}, "",
		},
		"twice":                     {"state=x&state=y", nil, "occurs 2 times"},
		"twice the same":            {"state=x&state=x", nil, "occurs 2 times"},
		"three times among others":  {"code=1&state=&a=b&state=&state=", nil, "occurs 3 times"},
		"twice, spelled apart":      {"state=x&st%61te=y", nil, "occurs 2 times"},
		"no name, twice":            {"=x&=y", nil, "occurs 2 times"},
		"longer":                    {"a=" + strings.Repeat("x", params.MaxSize-1), nil, "too many parameters"},
		"half an escape":            {"a=%f", nil, "malformed parameters"},
		"no escape":                 {"a=%zz", nil, "malformed parameters"},
		"an escape in a name":       {"%=x", nil, "malformed parameters"},
		"a semicolon for separator": {"a=b;c=d", nil, "malformed parameters"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := params.Parse(tt.raw)
			judge(t, got, err, tt.want, tt.words)
		})
	}
}

// Errors end up in logs, and a code or state does not.
func TestErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"code=canary&code=canary", "canary=%zz", "code=canary%", "code=canary;x", strings.Repeat("canary", params.MaxSize),
	} {
		if _, err := params.Parse(raw); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%.40q: got %v", raw, err)
		}
		r := httptest.NewRequest("POST", "/", strings.NewReader(raw))
		if _, err := params.Read(httptest.NewRecorder(), r); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%.40q in a form: got %v", raw, err)
		}
	}
	r := httptest.NewRequest("POST", "/?code=canary", strings.NewReader("code=canary"))
	if _, err := params.Read(httptest.NewRecorder(), r); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("in query and form: got %v", err)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	long := "a=" + strings.Repeat("x", params.MaxSize-2) // as long as it may be
	for name, tt := range map[string]struct {
		method, query, contentType string
		body                       io.Reader // nil: none at all
		want                       values
		words                      string
	}{
		"GET":                 {"GET", "a=b", "", nil, values{"a": "b"}, ""},
		"GET with a form":     {"GET", "a=b", form, strings.NewReader("c=d"), values{"a": "b"}, ""},
		"GET with JSON":       {"GET", "a=b", "application/json", strings.NewReader("{}"), values{"a": "b"}, ""},
		"PUT with a form":     {"PUT", "a=b", form, strings.NewReader("c=d"), values{"a": "b"}, ""},
		"POST":                {"POST", "", form, strings.NewReader("a=b&c=d"), values{"a": "b", "c": "d"}, ""},
		"POST with a query":   {"POST", "a=b", form, strings.NewReader("c=d"), values{"a": "b", "c": "d"}, ""},
		"POST of nothing":     {"POST", "a=b", form, strings.NewReader(""), values{"a": "b"}, ""},
		"POST without a body": {"POST", "a=b", form, nil, values{"a": "b"}, ""},
		"POST without a type": {"POST", "", "", strings.NewReader("a=b"), values{"a": "b"}, ""},
		"charset": {
			"POST", "", form + "; charset=UTF-8", strings.NewReader("a=b"), values{"a": "b"}, "",
		},
		"type in capitals":             {"POST", "", strings.ToUpper(form), strings.NewReader("a=b"), values{"a": "b"}, ""},
		"query and form at their most": {"POST", "b" + long, form, strings.NewReader(long), nil, "too many parameters"},
		"form at its most":             {"POST", "b=c", form, strings.NewReader(long), values{"a": long[2:], "b": "c"}, ""},
		"form of one byte more":        {"POST", "", form, strings.NewReader(long + "x"), nil, "too many parameters"},
		"endless form":                 {"POST", "", form, endless{}, nil, "too many parameters"},
		"twice in the form":            {"POST", "", form, strings.NewReader("a=b&a=c"), nil, "occurs 2 times"},
		"twice in the query":           {"POST", "a=b&a=c", form, strings.NewReader(""), nil, "occurs 2 times"},
		"in query and form":            {"POST", "a=b", form, strings.NewReader("a=b"), nil, "in the query and in the body"},
		"malformed form":               {"POST", "", form, strings.NewReader("a=%"), nil, "malformed parameters"},
		"malformed query":              {"POST", "a=%", form, strings.NewReader("a=b"), nil, "malformed parameters"},
		"form hidden behind a query":   {"POST", "a=%2", form, strings.NewReader("6b"), nil, "malformed parameters"},
		"JSON":                         {"POST", "", "application/json", strings.NewReader("{}"), nil, "is not " + form},
		"multipart": {
			"POST", "", "multipart/form-data; boundary=x", strings.NewReader("--x--"), nil, "is not " + form,
		},
		"text, as forms can send it": {"POST", "", "text/plain", strings.NewReader("a=b"), nil, "is not " + form},
		"type that is none":          {"POST", "", "form data", strings.NewReader("a=b"), nil, "is not " + form},
		"type with something behind": {"POST", "", form + "; ;", strings.NewReader("a=b"), nil, "is not " + form},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(tt.method, "/", tt.body)
			r.URL.RawQuery = tt.query
			if tt.body == nil {
				r.Body = nil // as in a request that no server made
			}
			if tt.contentType != "" {
				r.Header.Set("Content-Type", tt.contentType)
			}
			got, err := params.Read(httptest.NewRecorder(), r)
			judge(t, got, err, tt.want, tt.words)
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "&"), nil }

func TestErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	for name, tt := range map[string]struct {
		contentType string
		body        io.Reader
		want, not   error
	}{
		"no form":           {"text/plain", strings.NewReader(""), params.ErrMediaType, params.ErrTooLarge},
		"too large":         {form, endless{}, params.ErrTooLarge, params.ErrMediaType},
		"broken connection": {form, iotest.ErrReader(broken), broken, params.ErrTooLarge},
	} {
		r := httptest.NewRequest("POST", "/", tt.body)
		r.Header.Set("Content-Type", tt.contentType)
		if _, err := params.Read(httptest.NewRecorder(), r); !errors.Is(err, tt.want) || errors.Is(err, tt.not) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	if _, err := params.Parse(strings.Repeat("a", params.MaxSize+1)); !errors.Is(err, params.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

// parts counts the parameters of a query that was accepted.
func parts(raw string) (n int) {
	for part := range strings.SplitSeq(raw, "&") {
		if part != "" {
			n++
		}
	}
	return n
}

// No parameter is lost, doubled or made up, and writing them again gives the same.
func FuzzParse(f *testing.F) {
	for _, raw := range []string{
		"", "a=b&c=d", "a=b&a=c", "a;b", "%61=b&a=", "=", "&=&", "a=%ff+%00", strings.Repeat("a&", 20000),
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := params.Parse(raw)
		if err != nil {
			return
		}
		if len(raw) > params.MaxSize || len(got) != parts(raw) {
			t.Fatalf("%d parameters of %q", len(got), raw)
		}
		again := url.Values{}
		for name, value := range got {
			again.Set(name, value)
		}
		if encoded := again.Encode(); len(encoded) <= params.MaxSize {
			if second, err := params.Parse(encoded); err != nil || !maps.Equal(got, second) {
				t.Fatalf("%q, then %q, %v", got, second, err)
			}
		}
	})
}

// A form means what it would mean as a query, and never more together with one.
func FuzzRead(f *testing.F) {
	f.Add("a=b", "c=d", form)
	f.Add("a=b", "a=d", form)
	f.Add("", "a=d", "")
	f.Add("%", "a=%", "text/plain; x=\"")
	f.Fuzz(func(t *testing.T, query, body, contentType string) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header["Content-Type"] = []string{contentType}
		got, err := params.Read(httptest.NewRecorder(), r)
		if err != nil {
			return
		}
		if len(body) > params.MaxSize || len(got) != parts(query)+parts(body) {
			t.Fatalf("%d parameters of %q and %q", len(got), query, body)
		}
		for _, raw := range []string{query, body} {
			one, err := params.Parse(raw)
			if err != nil {
				t.Fatalf("%q was accepted", raw)
			}
			for name, value := range one {
				if got[name] != value {
					t.Fatalf("%q is %q, want %q", name, got[name], value)
				}
			}
		}
	})
}
