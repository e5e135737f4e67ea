package relay

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
)

// A Body is a request body that can be sent again, if it was short. It streams: nothing is read before it is asked for,
// and no more than the limit is remembered. It is safe for concurrent use, because a transport may still be reading in
// a goroutine of its own when the response is there. The zero value is an empty body.
type Body struct {
	src   io.ReadCloser // nil for an empty body
	limit int

	mu    sync.Mutex // guards all below
	seen  []byte
	over  bool // more was read than limit, so that seen is gone
	ended bool
	err   error // of the source: not its end
}

// NewBody returns a Body that reads from src, which may be nil, and remembers up to limit bytes.
func NewBody(src io.ReadCloser, limit int) *Body {
	return &Body{src: src, limit: limit}
}

// Read implements [io.Reader].
func (b *Body) Read(p []byte) (int, error) {
	if b.src == nil {
		return 0, io.EOF
	}
	n, err := b.src.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.over:
	case len(b.seen)+n > b.limit:
		b.over, b.seen = true, nil
	default:
		b.seen = append(b.seen, p[:n]...)
	}
	b.ended = b.ended || err == io.EOF
	if err != nil && err != io.EOF && !errors.Is(err, http.ErrBodyReadAfterClose) { // which is the transport's doing
		b.err = err
	}
	return n, err
}

// Close closes the source. What was read can still be had [Body.Again].
func (b *Body) Close() error {
	if b.src == nil {
		return nil
	}
	return b.src.Close()
}

// Again returns the body from its beginning. It fails if the body was longer than the limit, or has not been read to
// its end, for what is left of it may never come. The signature is that of [http.Request.GetBody].
func (b *Body) Again() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return nil, errors.New("the request body is too long to be sent again")
	}
	if b.src != nil && !b.ended {
		return nil, errors.New("the request body has not been read to its end")
	}
	return io.NopCloser(bytes.NewReader(b.seen)), nil
}

// Err returns why the source could not be read to its end: the client broke it off, or it is malformed. Nil is no reason.
func (b *Body) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
