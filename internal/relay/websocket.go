package relay

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// WebSocket reports whether r asks for another protocol, and if so, whether for a WebSocket by a handshake without
// fault (RFC 6455 4.2.1). All others must be refused, or sent on without [Handshake]: after "Upgrade: h2c" the client
// would talk to the upstream past all rules (S13). Whether the handshake comes from a page of ours it does not tell.
func WebSocket(r *http.Request) (asked, valid bool) {
	upgrade, settings := r.Header["Upgrade"], r.Header["Http2-Settings"]
	connection := hasToken(r.Header["Connection"], "upgrade")
	asked = len(upgrade) > 0 || len(settings) > 0 || connection
	valid = len(upgrade) == 1 && strings.EqualFold(upgrade[0], "websocket") && len(settings) == 0 && connection &&
		r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor == 1 &&
		r.ContentLength == 0 && len(r.TransferEncoding) == 0 &&
		isKey(r.Header["Sec-Websocket-Key"]) && isVersion(r.Header["Sec-Websocket-Version"])
	return asked, valid
}

// Handshake copies what a valid handshake is made of from in to out.
func Handshake(out, in http.Header) {
	out.Set("Connection", "Upgrade")
	out.Set("Upgrade", "websocket")
	for _, name := range []string{
		"Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions",
	} {
		delete(out, name)
		for _, v := range in[name] {
			out.Add(name, v)
		}
	}
}

// hasToken reports whether a comma-separated list, on any number of lines, has token, in any case.
func hasToken(lines []string, token string) bool {
	for item := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if strings.EqualFold(strings.Trim(item, " \t"), token) {
			return true
		}
	}
	return false
}

func isKey(values []string) bool {
	if len(values) != 1 {
		return false
	}
	nonce, err := base64.StdEncoding.DecodeString(values[0])
	return err == nil && len(nonce) == 16
}

// isVersion knows the only version there is. To another, an upstream answers with an error and goes on reading HTTP.
func isVersion(values []string) bool {
	return len(values) == 1 && values[0] == "13"
}
