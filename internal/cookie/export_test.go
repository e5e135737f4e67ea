package cookie

// What an honest writer never makes, for tests of what readers refuse.

// LongestAge is the cap on Max-Age in seconds.
const LongestAge = longestAge

// Dictionary is the part of the dictionary that all clients share.
const Dictionary = dictionary

func (c *Sessions) PackIdentity(id *Identity, cookies int) []byte {
	return id.pack(c.identity.mark, cookies)
}

func (c *Sessions) UnpackIdentity(plain []byte) (id Identity, cookies int, ok bool) {
	cookies, ok = id.unpack(c.identity.mark, string(plain))
	return id, cookies, ok
}

func (c *Sessions) PackTokens(id *Identity, t *Tokens) ([]byte, error) {
	return c.z.packTokens(c.tokens(id).mark, t)
}

func (c *Sessions) UnpackTokens(id *Identity, plain []byte) (*Tokens, error) {
	return c.z.unpackTokens(c.tokens(id).mark, string(plain), allParts)
}

func (c *Sessions) UnpackAccess(id *Identity, plain []byte) ([]AccessToken, error) {
	t, err := c.z.unpackTokens(c.tokens(id).mark, string(plain), accessPart)
	if err != nil {
		return nil, err
	}
	return t.Access, nil
}

// Forge seals two plaintexts as they are into the value of a session.
func (c *Sessions) Forge(id *Identity, identity, tokens []byte) (string, error) {
	box, err := seal(c.codecs, c.identity.name, identity)
	if err != nil {
		return "", err
	}
	rest, err := seal(c.codecs, c.tokens(id).name, tokens)
	return box + "." + rest, err
}

// CookieName returns the name of the pending cookie for state.
func (p *Pending) CookieName(state string) string { return p.name(state) }
