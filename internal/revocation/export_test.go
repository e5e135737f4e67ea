package revocation

// Encode and Decode are what is sealed in the store.
var (
	Encode = Mark.encode
	Decode = decode
)
