package relay

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrOutside is returned by [Path] for a path that is not below the prefix: 404.
	ErrOutside = errors.New("the path is not below the prefix")
	// ErrUnsafe is returned by [Path] for a path that some server may read as another one: 400.
	ErrUnsafe = errors.New("the path can be read in more than one way")
)

// maxDecodings is how often a path may be decoded until nothing is left to decode. Each takes time, and no name is
// encoded more often.
const maxDecodings = 3

// Path returns what follows prefix, which ends with a slash, in the path of u: still encoded, byte for byte as the
// client sent it, but for what cannot stand in a URL unencoded ("|" for one, which browsers send). It is empty for the
// prefix itself. The error is [ErrOutside] or [ErrUnsafe].
//
// Refused is what servers disagree about, as it is and decoded up to three times over: dot and empty segments, with
// matrix parameters too, backslashes, control characters, malformed UTF-8, and every encoded dot and slash (THR-50).
// One trailing slash, matrix parameters and all other escapes pass.
func Path(u *url.URL, prefix string) (rest string, err error) {
	rest, below := strings.CutPrefix(rawPath(u), prefix)
	if !below {
		return "", ErrOutside
	}
	if !isSafe(rest) {
		return "", ErrUnsafe
	}
	return encode(rest), nil
}

// rawPath is the path as it was received. [url.URL.EscapedPath] encodes it anew if one character is out of place, and
// then has a plain slash where there was an encoded one.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		if decoded, err := url.PathUnescape(u.RawPath); err == nil && decoded == u.Path {
			return u.RawPath
		}
	}
	return u.EscapedPath()
}

// Target returns the URL of rest, as [Path] returned it, below target's path, without a query. It has no user name or
// password, even if target has, because the transport would make a header of them. It fails if rest is not encoded as
// a path.
func Target(target *url.URL, rest string) (*url.URL, error) {
	raw := base(target) + rest
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		return nil, errors.New("the path is malformed") // without the cause, which quotes it
	}
	u := &url.URL{Scheme: target.Scheme, Host: target.Host, Path: decoded, RawPath: raw}
	if u.EscapedPath() != raw {
		return nil, errors.New("the path has characters that must be encoded")
	}
	return u, nil
}

// base is target's path with a slash at its end.
func base(target *url.URL) string {
	return strings.TrimSuffix(target.EscapedPath(), "/") + "/"
}

// isSafe reports whether everybody takes p, a path without its leading slash, for the same one, however often they
// decode it.
func isSafe(p string) bool {
	for range maxDecodings {
		if !isPlain(p) {
			return false
		}
		decoded, ok := decode(p)
		if !ok {
			return false
		}
		if decoded == p {
			return true
		}
		p = decoded
	}
	decoded, _ := decode(p)
	return decoded == p && isPlain(p)
}

// isPlain reports whether p as it is holds nothing that leads elsewhere.
func isPlain(p string) bool {
	if !utf8.ValidString(p) || strings.Contains(p, `\`) || strings.ContainsFunc(p, unicode.IsControl) {
		return false // overlong UTF-8, such as C0 AE for a dot, is invalid
	}
	if strings.HasPrefix(p, "/") || strings.Contains(p, "//") {
		return false // an empty segment
	}
	for segment := range strings.SplitSeq(strings.Map(lookalike, p), "/") {
		// A server that decodes first and looks for query and fragment then cuts there.
		if cut := strings.IndexAny(segment, "?#"); !isName(segment) || cut >= 0 && !isName(segment[:cut]) {
			return false
		}
	}
	return true
}

// isName reports whether neither a segment nor one of its matrix parameters is made of dots, and the parameters have a
// name in front: some servers cut off all after the semicolon, some treat it as a separator.
func isName(segment string) bool {
	name, parameters, _ := strings.Cut(segment, ";")
	if isDots(name) || name == "" && segment != "" {
		return false
	}
	for part := range strings.FieldsFuncSeq(parameters, func(r rune) bool { return r == ';' || r == '=' }) {
		if isDots(part) {
			return false
		}
	}
	return true
}

// isDots also finds "..." and ".. ", since Windows cuts off spaces and dots.
func isDots(s string) bool {
	return strings.Contains(s, ".") && strings.Trim(s, ". ") == ""
}

// lookalike maps a character to the ASCII one that it becomes by compatibility normalisation (NFKC) or in the "best
// fit" code pages of Windows. They are common in Japanese names, and so refused only where they make a dot segment.
func lookalike(r rune) rune {
	switch r {
	case '\uff0e', '\ufe52', '\u2024', '\u2025', '\u2026': // full-width and small stop, leaders of one to three dots
		return '.'
	case '\uff0f', '\u2044', '\u2215', '\u29f8', '\uff3c', '\u2216', '\ufe68', '\u29f5': // slashes and backslashes
		return '/'
	case '\uff1b', '\u037e': // full-width semicolon, Greek question mark
		return ';'
	}
	return r
}

// decode decodes the escapes of p and leaves malformed ones as they are, so that "100%25" is a name. It is not ok if
// one stands for a dot or slash, which is legitimate only as itself.
func decode(p string) (decoded string, ok bool) {
	if !strings.Contains(p, "%") {
		return p, true
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '%' && i+2 < len(p) {
			if v, err := strconv.ParseUint(p[i+1:i+3], 16, 8); err == nil {
				if v == '.' || v == '/' {
					return "", false
				}
				c, i = byte(v), i+2
			}
		}
		b.WriteByte(c)
	}
	return b.String(), true
}

// encode encodes what url.URL does not accept in a path as it is.
func encode(p string) string {
	var b strings.Builder
	for i := range len(p) {
		if c := p[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>^`{|}#?", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
