package oidcauthtest

// RoundTripper is for tests of what every client in memory has in common.
var RoundTripper = roundTripper
