// Package processes has tests of an application that runs in several processes: real ones, with a real Redis or
// PostgreSQL between them, which are killed, paused and started again while they refresh one session.
//
// The provider is in the test's process. It rotates refresh tokens, and revokes all that came of a login when a token
// that was used up is used again: whatever goes wrong in the application is a logout.
package processes
