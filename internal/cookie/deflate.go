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
	// maxPart bounds one token or document in a stream and maxInflated all of them, in bytes (THR-23).
	maxPart     = 64 << 10
	maxInflated = 256 << 10
	// At level 1 compress/flate ignores a dictionary.
	deflateLevel = 6
	// streamTail ends every stream and is not stored (RFC 7692, section 7.2.1).
	streamTail = "\x00\x00\xff\xff"
)

// dictionary is what headers and payloads of tokens tend to say, in the order in which providers tend to say it, the
// likeliest last, where distances are short. It is part of the format: another text needs another version.
const dictionary = `"profile":"","website":"","gender":"","birthdate":"","middle_name":"",` +
	`"zoneinfo":"Europe/","locale":"en-","phone_number":"+","phone_number_verified":true,` +
	`"address":{"formatted":"","street_address":"","locality":"","region":"","postal_code":"","country":"` +
	`"groups":["entitlements":["hd":"","upn":"","unique_name":"","login":"","org_name":"",` +
	`"gty":"authorization_code","c_hash":"","s_hash":"","session_state":"","x5t":"` +
	`"acr":"1","allowed-origins":["https://"],"realm_access":{"roles":["offline_access","uma_authorization",` +
	`"default-roles-"]},"resource_access":{"account":{"roles":["manage-account","manage-account-links",` +
	`"view-profile"]}},"scope":"openid email profile","email_verified":true,"name":"",` +
	`"preferred_username":"","given_name":"","family_name":"",` +
	`"azpacr":"1","aio":"","oid":"","rh":"1.","roles":["tid":"","uti":"","ver":"2.0","ver":1,"cid":"","uid":"",` +
	`"scp":["openid","acr":"urn:","amr":["pwd","mfa","otp","hwk"],"idp":"","nonce":"","at_hash":"",` +
	`"auth_time":18,"nbf":18"typ":"ID","typ":"Bearer",` +
	`{"kid":"","alg":"RS256"}{"typ":"JWT","alg":"RS256","kid":"{"alg":"ES256","kid":"PS256"` +
	`api://.apps.googleusercontent.com/v2.0https://login.microsoftonline.com/` +
	`.com","picture":"https://lh3.googleusercontent.com/a/=s96-c","picture":"https://s.gravatar.com/avatar/` +
	`?s=480&r=pg&d=https%3A%2F%2Fcdn.auth0.com%2Favatars%2F.png",.jpg",` +
	`google-oauth2|windowslt|waad|samlp|oidc|github|email|sms|@gmail.com","email_verified":false,` +
	`"],"permissions":["admin:","create:","update:","delete:","write:","read:` +
	`{"alg":"RS256","typ":"JWT","kid":""}{"nickname":"","name":"","picture":"https://` +
	`","updated_at":"2026-01-01T00:00:00.000Z","email":"","email_verified":true,"iss":"` +
	`"aud":"","sub":"auth0|","iat":18,"exp":18,"sid":"","nonce":"","org_id":"org_userinfo` +
	`"],"iat":18,"exp":18,"scope":"openid profile email phone address offline_access read: write:` +
	`","org_id":"org_","azp":"","jti":"","client_id":"","permissions":["read:","write:` +
	`","aud":["https://{"alg":"RS256","typ":"at+jwt","kid":""}{"iss":"`

var errStream = errors.New("cookie: a compressed stream is not what its length says")

// A deflater compresses and inflates with a preset dictionary. It is safe for concurrent use. Its pools hold what has
// passed through, which must be public by nature.
type deflater struct {
	dict    []byte
	writers sync.Pool // of *flate.Writer
	readers sync.Pool // of *inflater
}

func newDeflater(words []string) *deflater {
	return &deflater{dict: []byte(dictionary + strings.Join(words, `","aud":"`) + `","sub":"auth0|`)}
}

// deflate compresses text into a stream.
func (d *deflater) deflate(text []byte) ([]byte, error) {
	w, ok := d.writers.Get().(*flate.Writer)
	if !ok {
		var err error
		if w, err = flate.NewWriterDict(io.Discard, deflateLevel, d.dict); err != nil {
			return nil, fmt.Errorf("cookie: deflate: %w", err)
		}
	}
	var out bytes.Buffer
	w.Reset(&out)
	_, err := w.Write(text)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("cookie: deflate: %w", err)
	}
	w.Reset(io.Discard)
	d.writers.Put(w)
	return bytes.TrimSuffix(out.Bytes(), []byte(streamTail)), nil
}

// An inflater reads one stream, as far as it is asked to.
type inflater struct {
	src  strings.Reader
	z    io.ReadCloser
	left int // bytes it may still make
}

// open returns an inflater for stream, to be closed.
func (d *deflater) open(stream string) *inflater {
	r, ok := d.readers.Get().(*inflater)
	if !ok {
		r = new(inflater)
		r.z = flate.NewReaderDict(&r.src, d.dict)
	}
	r.src.Reset(stream + streamTail)
	_ = r.z.(flate.Resetter).Reset(&r.src, d.dict) // It never fails.
	r.left = maxInflated
	return r
}

func (d *deflater) close(r *inflater) {
	r.src.Reset("")
	d.readers.Put(r)
}

// next returns the next size bytes, a copy. It makes no more than the bounds allow, whatever size and stream say.
func (r *inflater) next(size uint64) ([]byte, error) {
	if size > maxPart || int(size) > r.left {
		return nil, errStream
	}
	r.left -= int(size)
	b := make([]byte, size)
	if _, err := io.ReadFull(r.z, b); err != nil {
		return nil, errStream
	}
	return b, nil
}

// done reports whether the stream ends here.
func (r *inflater) done() bool {
	var more [1]byte
	_, err := io.ReadFull(r.z, more[:])
	return errors.Is(err, io.EOF)
}
