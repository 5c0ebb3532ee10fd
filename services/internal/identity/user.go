// Package identity is who is asking: tokens that auth issues with its private key, and their verification by
// everybody else with auth's public keys.
//
// A token is a JWT signed with Ed25519 (EdDSA, RFC 8037), and no other algorithm is taken, whatever a token's
// header says. Keys are named by their RFC 7638 thumbprint, so a key cannot be renamed and two can be told
// apart while one replaces the other.
//
// A token ends by itself after its lifetime. Before that it can be revoked: with all of its user's tokens, whose epoch is
// raised, or with those of its session. Auth lists what is revoked (Revocations) for as long as such tokens could be
// good, and verifiers fetch the list as they do the keys.
package identity

import "boxoffice/services/internal/id"

// User is who a token was issued to.
type User struct {
	ID    id.User
	Email string
	// Epoch is the user's when the token was issued. Each revocation of all of a user's tokens raises it.
	Epoch int
	// Session is the id of the session in which the token was issued.
	Session string
}

// issuedBy is the "iss" claim of every token.
const issuedBy = "boxoffice/auth"
