// Package answer says with which status and words each error code is answered. The status says who is to blame: 4xx the
// request or the user, 502 the provider answered badly, 503 it cannot be reached, 500 a mistake on our side.
package answer

import "net/http"

type answer struct {
	status int
	text   string
}

const (
	malformed = "The answer of the sign-in service is malformed. Please try again."
	unusable  = "The sign-in service gave an answer that cannot be used. Please try again."
	signedOut = "You are signed out of this application, but maybe not of the sign-in service."
	goThere   = "The sign-in service needs you to sign in there first."
)

var answers = map[string]answer{
	"invalid_request":     {http.StatusBadRequest, "The request is malformed."},
	"method_not_allowed":  {http.StatusMethodNotAllowed, "This address does not answer such requests."},
	"not_found":           {http.StatusNotFound, "There is nothing at this address."},
	"navigation_required": {http.StatusBadRequest, "Open this address in a browser tab of its own to sign in."},

	"unauthenticated":      {http.StatusUnauthorized, "You are not signed in."},
	"session_revoked":      {http.StatusUnauthorized, "You were signed out while you signed in. Please sign in again."},
	"forbidden":            {http.StatusForbidden, "You do not have access to this page."},
	"cross_origin_request": {http.StatusForbidden, "The request does not come from a page of this site."},

	"invalid_issuer":   {http.StatusBadRequest, malformed},
	"invalid_response": {http.StatusBadRequest, malformed},
	"invalid_state": {http.StatusBadRequest, "This sign-in was started in another browser, took too long or was used already. " +
		"If it keeps happening, check that cookies are allowed for this site."},
	"access_denied":              {http.StatusBadRequest, "The sign-in was cancelled, or you are not allowed to use this application."},
	"login_required":             {http.StatusBadRequest, goThere},
	"interaction_required":       {http.StatusBadRequest, goThere},
	"consent_required":           {http.StatusBadRequest, goThere},
	"account_selection_required": {http.StatusBadRequest, goThere},
	"login_denied":               {http.StatusForbidden, "You cannot sign in to this application this way."},
	"session_too_large":          {http.StatusInternalServerError, "Your sign-in holds too much data for this application."},

	"invalid_target": {http.StatusBadRequest, "This application gives out no token for that audience."},
	"invalid_scope":  {http.StatusBadRequest, "This application gives out no token with that scope."},
	"mfa_required":   {http.StatusForbidden, "The sign-in service asks for a second factor first."},
	"refresh_failed": {http.StatusBadGateway, unusable},

	"invalid_metadata": {http.StatusBadGateway, unusable},
	"exchange_failed":  {http.StatusBadGateway, unusable},
	"invalid_id_token": {http.StatusBadGateway, unusable},
	"invalid_userinfo": {http.StatusBadGateway, unusable},
	"provider_unavailable": {
		http.StatusServiceUnavailable, "The sign-in service cannot be reached at the moment. Please try again shortly.",
	},

	"upstream_unavailable": {http.StatusBadGateway, "The service behind this address cannot be reached."},
	"upstream_timeout":     {http.StatusGatewayTimeout, "The service behind this address takes too long to answer."},

	"store_unavailable": {http.StatusServiceUnavailable, "Sign-ins cannot be looked up at the moment. Please try again shortly."},

	"logout_incomplete": {
		http.StatusServiceUnavailable, "You are signed out in this browser, but copies of the sign-in may live on. Please try again shortly.",
	},
	"logout_not_supported": {http.StatusInternalServerError, signedOut},
	"logout_failed":        {http.StatusInternalServerError, signedOut},
	"server_error":         {http.StatusInternalServerError, "Something went wrong on our side."},
}

// Of returns status and text for code. A code that is not known is one of the provider's.
func Of(code string) (status int, text string) {
	if a, ok := answers[code]; ok {
		return a.status, a.text
	}
	return http.StatusBadRequest, "The sign-in service did not sign you in."
}

// NeedsInteraction reports whether code says that the provider has to show the user something first (OpenID Connect Core
// 3.1.2.6).
func NeedsInteraction(code string) bool { return answers[code].text == goThere }
