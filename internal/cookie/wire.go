package cookie

import "encoding/binary"

func appendText[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// A reader takes a plaintext apart. After the first mistake everything it returns is zero and bad is set, so that
// callers check once.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) fail() {
	r.rest, r.bad = "", true
}

// done reports whether everything was read and nothing was missing.
func (r *reader) done() bool {
	return !r.bad && r.rest == ""
}

// take returns the next n bytes. They share the plaintext's memory.
func (r *reader) take(n uint64) string {
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) octet() byte {
	s := r.take(1)
	if s == "" {
		return 0
	}
	return s[0]
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint([]byte(r.rest[:min(len(r.rest), binary.MaxVarintLen64)]))
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint([]byte(r.rest[:min(len(r.rest), binary.MaxVarintLen64)]))
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) text() string {
	return r.take(r.uvarint())
}

// count returns a number of things that take at least one byte each, so that a lie about it costs no memory.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return int(n)
}
