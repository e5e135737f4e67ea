package relay_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/oidcauth/oidcauth/internal/relay"
)

func again(t *testing.T, b *relay.Body) string {
	t.Helper()
	r, err := b.Again()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// THR-59
func TestBodyIsSentAgain(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]io.Reader{
		"at once":                strings.NewReader("0123456789"),
		"byte by byte":           iotest.OneByteReader(strings.NewReader("0123456789")),
		"end with the last byte": iotest.DataErrReader(strings.NewReader("0123456789")),
	} {
		b := relay.NewBody(io.NopCloser(src), 10)
		if text, err := io.ReadAll(b); err != nil || string(text) != "0123456789" {
			t.Fatalf("%s: %q, %v", name, text, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := again(t, b); got != "0123456789" {
				t.Errorf("%s: again: %q", name, got)
			}
		}
	}
}

func TestEmptyBodyIsSentAgain(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]*relay.Body{
		"zero value": {}, "no source": relay.NewBody(nil, 10), "not read": relay.NewBody(nil, 0),
		"no body": relay.NewBody(http.NoBody, 10), "no limit": relay.NewBody(http.NoBody, -1),
	} {
		if n, err := io.Copy(io.Discard, b); n != 0 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if name == "no limit" {
			continue
		}
		if got := again(t, b); got != "" || b.Close() != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// THR-59: half a body is never sent as a whole one.
func TestBodyIsNotSentAgain(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	for name, tt := range map[string]struct {
		src   io.Reader
		limit int
		read  int64
	}{
		"before it was read":       {strings.NewReader("0123456789"), 100, 0},
		"when it was read in part": {strings.NewReader("0123456789"), 100, 5},
		"before its end was seen":  {strings.NewReader("0123456789"), 100, 10},
		"over the limit":           {strings.NewReader("0123456789"), 9, 100},
		"over the limit in steps":  {iotest.OneByteReader(strings.NewReader("0123456789")), 9, 100},
		"that broke off":           {io.MultiReader(strings.NewReader("0123"), iotest.ErrReader(broken)), 100, 100},
		"with a limit of nothing":  {strings.NewReader("0"), 0, 100},
	} {
		b := relay.NewBody(io.NopCloser(tt.src), tt.limit)
		if _, err := io.CopyN(io.Discard, b, tt.read); err != nil && err != io.EOF && err != broken {
			t.Fatal(err)
		}
		if r, err := b.Again(); err == nil {
			text, _ := io.ReadAll(r)
			t.Errorf("%s: %q", name, text)
		}
	}
}

// An upload is passed on as it comes, without a look ahead.
func TestBodyStreams(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	b := relay.NewBody(r, 10)
	for _, want := range []string{"one", "two"} {
		go func() { _, _ = io.WriteString(w, want) }()
		got := make([]byte, 100)
		if n, err := b.Read(got); err != nil || string(got[:n]) != want {
			t.Errorf("%q, %v", got[:n], err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the source was not closed: %v", err)
	}
}

// The limit holds for memory too.
func TestBodyForgetsWhatIsTooLong(t *testing.T) {
	const limit = 1 << 10
	chunk := make([]byte, limit)
	b := relay.NewBody(io.NopCloser(endless{}), limit)
	for range 3 {
		_, _ = b.Read(chunk)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Read(chunk) }); n != 0 {
		t.Errorf("%v allocations per read after the limit", n)
	}
	if n := b.Remembered(); n != 0 {
		t.Errorf("%d bytes are kept", n)
	}
	if _, err := b.Again(); err == nil {
		t.Error("sent again")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A transport may still be reading when the response is there. Under -race.
func TestBodyIsReadAndAskedForAtOnce(t *testing.T) {
	t.Parallel()
	sent := bytes.Repeat([]byte("x"), 1<<12)
	b := relay.NewBody(io.NopCloser(iotest.OneByteReader(bytes.NewReader(sent))), len(sent))
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, b) })
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if r, err := b.Again(); err == nil {
					if text, _ := io.ReadAll(r); len(text) != len(sent) {
						t.Errorf("%d bytes", len(text))
					}
				}
			}
		})
	}
	wg.Wait()
	if got := again(t, b); got != string(sent) {
		t.Errorf("%d bytes", len(got))
	}
}
