package cookie_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/securecookie"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

// vaultSet is a set after change.
func vaultSet(change ...func(*cookie.SetOptions)) cookie.Set {
	o := setOptions()
	for _, f := range change {
		f(&o)
	}
	return cookie.NewSet(o)
}

func secretsAre(secrets ...string) func(*cookie.SetOptions) {
	return func(o *cookie.SetOptions) { o.Secrets = secrets }
}

// strangers differ from [setOptions] in one thing each.
var strangers = map[string]func(*cookie.SetOptions){
	"issuer":      func(o *cookie.SetOptions) { o.Issuer = "https://b.example/" },
	"client":      func(o *cookie.SetOptions) { o.ClientID = "another" },
	"base URL":    func(o *cookie.SetOptions) { o.BaseURL = "https://app.example.com/b" },
	"secret":      secretsAre(otherSecret),
	"cookie name": func(o *cookie.SetOptions) { o.Session.Name = "__Host-app" },
}

// S11: what is noted opens under its own name, at its own application, and nowhere else.
func TestWhatAVaultSealsOpensOnlyThere(t *testing.T) {
	t.Parallel()
	v := vaultSet().Vault
	for _, plain := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("mark"), 1000)} {
		data, err := v.Seal(0, "name", plain)
		if err != nil {
			t.Fatal(err)
		}
		again, err := v.Seal(0, "name", plain)
		if err != nil || bytes.Equal(data, again) {
			t.Errorf("what is sealed twice is the same: %v", err)
		}
		if got, ok := v.Open("name", data); !ok || !bytes.Equal(got, plain) {
			t.Errorf("%d octets come back as %d, %v", len(plain), len(got), ok)
		}
		if len(plain) > 1 && bytes.Contains(data, plain[:4]) {
			t.Error("it is not sealed")
		}
		refused := func(what string, v cookie.Vault, name string, data []byte) {
			t.Helper()
			if got, ok := v.Open(name, data); ok || got != nil {
				t.Errorf("%s opens", what)
			}
		}
		for _, name := range []string{"", "nam", "name ", "Name", "vault", "nam\x00e"} {
			refused("under another name", v, name, data)
		}
		for what, change := range strangers {
			refused("with another "+what, vaultSet(change).Vault, "name", data)
		}
		for i := range data {
			changed := slices.Clone(data)
			changed[i] ^= 1
			refused("with an octet changed", v, "name", changed)
			if i > 200 {
				break
			}
		}
		for _, size := range []int{0, 1, len(data) / 2, len(data) - 1} {
			refused("cut short", v, "name", data[:size])
		}
		refused("with more at its end", v, "name", append(slices.Clone(data), 'A'))
		refused("after a megabyte", v, "name", append(bytes.Repeat([]byte("A"), 1<<20), data...))
	}
}

// S11: what a vault seals is no cookie and no entry, and none of those opens as what is noted.
func TestAVaultIsNoCookie(t *testing.T) {
	t.Parallel()
	key := securecookie.GenerateRandomKey(32)
	for name, change := range map[string]func(*cookie.SetOptions){
		"secrets": func(*cookie.SetOptions) {},
		"an own codec, for all": func(o *cookie.SetOptions) {
			one := []securecookie.Codec{securecookie.New(key, key).SetSerializer(raw{})}
			o.SessionCodecs, o.LoginCodecs = one, one
		},
	} {
		for _, inStore := range []bool{false, true} {
			set := vaultSet(change, func(o *cookie.SetOptions) { o.Stored = inStore })
			s := newSession(t, set.Records, reference.identity(), reference.tokens(t))
			handle := cookie.Handle(s.Identity.ID)
			record, err := set.Records.SealEntry(s)
			if err != nil {
				t.Fatal(err)
			}
			recordKey, entryKey := set.Records.Key(handle), set.Sessions.Key(handle)
			noted, err := set.Vault.Seal(0, recordKey, []byte("noted"))
			if err != nil {
				t.Fatal(err)
			}
			var dst cookie.Session
			if !set.Records.OpenEntry(recordKey, record, &dst) {
				t.Errorf("%s: a record does not open", name)
			}
			for _, at := range []string{recordKey, entryKey} {
				if set.Records.OpenEntry(at, noted, &dst) || set.Sessions.OpenEntry(at, noted, &dst) {
					t.Errorf("%s: what is noted opens as a session", name)
				}
				if _, ok := set.Vault.Open(at, record); ok {
					t.Errorf("%s: a record opens as what is noted", name)
				}
			}
			if recordKey != entryKey && set.Sessions.OpenEntry(entryKey, record, &dst) {
				t.Errorf("%s: a record opens as an entry", name)
			}
			for _, data := range [][]byte{record, noted} {
				for _, c := range []*cookie.Sessions{set.Sessions, set.Offered} {
					if c.Load(cookies("__Host-session="+string(data)), &dst) {
						t.Errorf("%s: what is in the store opens as a cookie", name)
					}
				}
			}
		}
	}
}

// raw is a serializer that leaves octets as they are.
type raw struct{}

func (raw) Serialize(src any) ([]byte, error) { return src.([]byte), nil }

func (raw) Deserialize(src []byte, dst any) error {
	*dst.(*[]byte) = bytes.Clone(src)
	return nil
}

// S10: what is found by the name of one secret opens with that secret alone, when the others are gone; and all open.
func TestAVaultOfSeveralSecrets(t *testing.T) {
	t.Parallel()
	both := vaultSet(secretsAre(testSecret, otherSecret)).Vault
	turned := vaultSet(secretsAre(otherSecret, testSecret)).Vault
	for i, secret := range []string{testSecret, otherSecret} {
		data, err := both.Seal(i, "name", []byte("noted"))
		if err != nil {
			t.Fatal(err)
		}
		alone := vaultSet(secretsAre(secret)).Vault
		for who, v := range map[string]cookie.Vault{"both": both, "both, turned": turned, "it alone": alone} {
			if got, ok := v.Open("name", data); !ok || string(got) != "noted" {
				t.Errorf("sealed with secret %d, it does not open with %s", i, who)
			}
		}
		other := []string{otherSecret, testSecret}[i]
		if _, ok := vaultSet(secretsAre(other)).Vault.Open("name", data); ok {
			t.Errorf("sealed with secret %d, it opens with the other", i)
		}
	}
	key := securecookie.GenerateRandomKey(32)
	own := vaultSet(secretsAre(testSecret, otherSecret), func(o *cookie.SetOptions) {
		o.SessionCodecs = []securecookie.Codec{securecookie.New(key, key).SetSerializer(raw{})}
	}).Vault
	for i := range 2 { // there are more names than codecs
		data, err := own.Seal(i, "name", []byte("noted"))
		if got, ok := own.Open("name", data); err != nil || !ok || string(got) != "noted" {
			t.Errorf("with a codec of its own: %v, %v", err, ok)
		}
	}
}

// S10: tags are keyed by each secret, the same whatever else is in the list, and say nothing to anybody without them.
func TestTagsOfSeveralSecrets(t *testing.T) {
	t.Parallel()
	of := func(kind, value string, change ...func(*cookie.SetOptions)) []string {
		return vaultSet(change...).Tags.Of(kind, value)
	}
	a, b := of("sid", "1"), of("sid", "1", secretsAre(otherSecret))
	if len(a) != 1 || len(a[0]) != 43 || a[0] == b[0] {
		t.Fatalf("the tags are %q and %q", a, b)
	}
	if got := of("sid", "1", secretsAre(testSecret, otherSecret)); !slices.Equal(got, []string{a[0], b[0]}) {
		t.Error("with two secrets they are not those of each")
	}
	if got := of("sid", "1", secretsAre(otherSecret, testSecret)); !slices.Equal(got, []string{b[0], a[0]}) {
		t.Error("the first secret's is not the first tag")
	}
	seen := map[string]string{}
	note := func(what string, names ...string) {
		t.Helper()
		for _, name := range names {
			if before, ok := seen[name]; ok {
				t.Errorf("%s has the name of %s", what, before)
			}
			seen[name] = what
		}
	}
	for _, kind := range []string{"sid", "subject", "ended sid", "ended subject", ""} {
		for _, value := range []string{"1", "2", "", "sid", "1\x00", "sid1"} {
			note("the "+kind+" "+value, of(kind, value)...)
		}
	}
	note("a longer kind", of("sid1", "2")...)
	for what, change := range strangers {
		note("the same of another "+what, of("sid", "1", change)...)
	}
}

// What needs no secret is named after what it is, and whose.
func TestNamesWithoutASecret(t *testing.T) {
	t.Parallel()
	name := vaultSet().Vault.Name("claim", "handle")
	if len(name) != 43 || name != vaultSet(secretsAre(otherSecret)).Vault.Name("claim", "handle") {
		t.Errorf("it is %q, and changes with the secret", name)
	}
	seen := map[string]bool{name: true, vaultSet().Records.Key("handle"): true}
	for what, other := range map[string]string{
		"kind": vaultSet().Vault.Name("jti", "handle"), "value": vaultSet().Vault.Name("claim", "handl"),
		"boundary": vaultSet().Vault.Name("claimh", "andle"), "tag": vaultSet().Tags.Of("claim", "handle")[0],
	} {
		if seen[other] {
			t.Errorf("of another %s it is the same", what)
		}
		seen[other] = true
	}
	for what, change := range strangers {
		if got := vaultSet(change).Vault.Name("claim", "handle"); what != "secret" && seen[got] {
			t.Errorf("of another %s it is the same", what)
		}
	}
}

// FuzzVaultOpen: what a store returns is refused, unless it was sealed for that name.
func FuzzVaultOpen(f *testing.F) {
	v := vaultSet().Vault
	data, err := v.Seal(0, "name", []byte("noted"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("name", data)
	f.Add("other", data)
	f.Add("name", []byte(strings.Repeat("A", 100)))
	f.Add("", []byte(nil))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		got, ok := v.Open(name, b)
		if ok && (name != "name" || string(got) != "noted") || !ok && got != nil {
			t.Errorf("under %q it opens: %v, as %q", name, ok, got)
		}
	})
}
