package cookie

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

const (
	// maxStream bounds one inflated stream and maxInflated all of a session, in bytes (THR-23).
	maxStream   = 64 << 10
	maxInflated = 256 << 10
	// At level 1 compress/flate ignores a dictionary.
	deflateLevel = 6
	// streamTail ends every stream and is not stored (RFC 7692, section 7.2.1).
	streamTail = "\x00\x00\xff\xff"
)

// dictionary is what headers and payloads of tokens tend to say, in the order in which providers tend to say it, the
// likeliest last, where distances are short. It is part of the format: another text needs another version.
const dictionary = `"given_name":"","family_name":"","preferred_username":"","middle_name":"",` +
	`"profile":"","website":"","gender":"","birthdate":"",` +
	`"zoneinfo":"Europe/","locale":"en-","phone_number":"+","phone_number_verified":true,` +
	`"address":{"formatted":"","street_address":"","locality":"","region":"","postal_code":"","country":"` +
	`"realm_access":{"roles":["resource_access":{"account":{"roles":["groups":["roles":["entitlements":["` +
	`"tid":"","oid":"","ver":"2.0","uti":"","upn":"","unique_name":"","idp":"","hd":"","cid":"","uid":"","login":"` +
	`"typ":"Bearer","session_state":"","allowed-origins":["https://","at_hash":"","c_hash":"","s_hash":"","nbf":17` +
	`,"acr":"urn:","amr":["pwd","mfa","otp","hwk"],"auth_time":17,"org_name":"","gty":"authorization_code",` +
	`{"typ":"JWT","alg":"ES256","kid":"{"alg":"PS256","typ":"at+jwt","x5t":"` +
	`.com","picture":"https://lh3.googleusercontent.com/a/=s96-c","picture":"https://s.gravatar.com/avatar/` +
	`?s=480&r=pg&d=https%3A%2F%2Fcdn.auth0.com%2Favatars%2F.png",.jpg",` +
	`google-oauth2|windowslt|waad|samlp|oidc|github|email|sms|@gmail.com","email_verified":false,` +
	`"],"permissions":["create:","update:","delete:","write:","read:` +
	`"/userinfo"],"iat":17,"exp":17,"scope":"openid profile email phone address offline_access read: write:` +
	`","org_id":"org_","azp":"","jti":"","client_id":"","permissions":["read:","write:` +
	`{"alg":"RS256","typ":"at+jwt","kid":""}{"iss":"","sub":"auth0|","aud":["https://` +
	`{"alg":"RS256","typ":"JWT","kid":""}{"nickname":"","name":"","picture":"https://` +
	`","updated_at":"2026-01-01T00:00:00.000Z","email":"","email_verified":true,` +
	`"sub":"auth0|","iat":17,"exp":17,"sid":"","nonce":"","org_id":"org_","iss":"https://`

var errStream = errors.New("cookie: a compressed stream is not what its length says")

// A deflater compresses and inflates with a preset dictionary. It is safe for concurrent use. Its pools hold what has
// passed through, which must be public by nature.
type deflater struct {
	dict    []byte
	writers sync.Pool // of *writer
	readers sync.Pool // of *inflater
}

type writer struct {
	out bytes.Buffer
	z   *flate.Writer
}

type inflater struct {
	src strings.Reader
	z   io.ReadCloser
}

func newDeflater(words []string) *deflater {
	return &deflater{dict: []byte(dictionary + strings.Join(words, `","aud":"`))}
}

// deflate compresses parts into one stream.
func (d *deflater) deflate(parts ...[]byte) ([]byte, error) {
	w, ok := d.writers.Get().(*writer)
	if !ok {
		z, err := flate.NewWriterDict(io.Discard, deflateLevel, d.dict)
		if err != nil {
			return nil, fmt.Errorf("cookie: deflate: %w", err)
		}
		w = &writer{z: z}
	}
	w.out.Reset()
	w.z.Reset(&w.out)
	for _, part := range parts {
		if _, err := w.z.Write(part); err != nil {
			return nil, fmt.Errorf("cookie: deflate: %w", err)
		}
	}
	if err := w.z.Close(); err != nil {
		return nil, fmt.Errorf("cookie: deflate: %w", err)
	}
	stream := bytes.Clone(bytes.TrimSuffix(w.out.Bytes(), []byte(streamTail)))
	d.writers.Put(w)
	return stream, nil
}

// inflate returns the size bytes that stream holds. It never makes more, whatever the stream says.
func (d *deflater) inflate(stream string, size int) ([]byte, error) {
	r, ok := d.readers.Get().(*inflater)
	if !ok {
		r = new(inflater)
		r.z = flate.NewReaderDict(&r.src, d.dict)
	}
	r.src.Reset(stream + streamTail)
	if err := r.z.(flate.Resetter).Reset(&r.src, d.dict); err != nil {
		return nil, errStream
	}
	// One byte more, to see the end.
	b := make([]byte, size+1)
	n, err := io.ReadFull(r.z, b)
	r.src.Reset("")
	d.readers.Put(r)
	if n != size || !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errStream
	}
	return b[:size:size], nil
}
