package cookie

import (
	"fmt"

	"github.com/gorilla/securecookie"
)

// maxVault is how much of what a store returns is looked at, in octets.
const maxVault = 1 << 16

// Tags names sessions, and what is noted about them, in a store by what they have in common, so that a dump of it names
// nobody.
type Tags struct {
	keys    [][]byte
	binding []string
}

// Of returns the tag of a value under each secret: the first is written, and all are looked for (S10). There is none if no
// key could be derived.
func (t Tags) Of(kind, value string) []string {
	var tags []string
	for _, key := range t.keys {
		if key != nil {
			tags = append(tags, encoding.EncodeToString(mac(key, append([]string{"tag", kind, value}, t.binding...)...)))
		}
	}
	return tags
}

// A Vault seals what a store keeps beside sessions. It is safe for concurrent use.
type Vault struct {
	codecs  []securecookie.Codec
	own     bool // a codec for each secret
	binding []string
}

// Name is the name of what nobody can guess, or need not: it does not depend on a secret.
func (v Vault) Name(kind, value string) string {
	d := digest(append([]string{"name", kind, value}, v.binding...)...)
	return encoding.EncodeToString(d[:])
}

// Seal returns what the store keeps of plain under name. It is sealed with the secret of that index, or with the first
// codec given: what is found by one secret must open with it when the others are gone.
func (v Vault) Seal(secret int, name string, plain []byte) ([]byte, error) {
	codecs := v.codecs
	if v.own {
		codecs = codecs[secret:]
	}
	l := newLabel(append([]string{"vault", name}, v.binding...)...)
	text, err := seal(codecs, l.name, append(append([]byte{version}, l.mark...), plain...))
	if err != nil {
		return nil, fmt.Errorf("cookie: seal what is noted: %w", err)
	}
	return []byte(text), nil
}

// Open opens what the store has under name. It reports false if that is not what Seal returned for it.
func (v Vault) Open(name string, data []byte) (plain []byte, ok bool) {
	if len(data) > maxVault {
		return nil, false
	}
	l := newLabel(append([]string{"vault", name}, v.binding...)...)
	plain, _, ok = open(v.codecs, l.name, string(data))
	if !ok || len(plain) < 1+len(l.mark) || plain[0] != version || string(plain[1:1+len(l.mark)]) != l.mark {
		return nil, false
	}
	return plain[1+len(l.mark):], true
}
