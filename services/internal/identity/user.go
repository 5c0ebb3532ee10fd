// Package identity is who is asking: tokens that auth issues with its private key, and their verification by
// everybody else with auth's public keys.
//
// A token is a JWT signed with Ed25519 (EdDSA, RFC 8037), and no other algorithm is taken, whatever a token's
// header says. Keys are named by their RFC 7638 thumbprint, so a key cannot be renamed and two can be told
// apart while one replaces the other.
package identity

// User is who a token was issued to.
type User struct {
	ID    string
	Email string
}

// issuedBy is the "iss" claim of every token.
const issuedBy = "boxoffice/auth"
