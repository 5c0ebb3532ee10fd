// Package identity issues and verifies the tokens of users. Auth issues them with its private key, and all services verify them
// with auth's public keys.
//
// A token is a JWT signed with Ed25519 (EdDSA, RFC 8037). No other algorithm is accepted, whatever the token's header names. A
// key's id is its RFC 7638 thumbprint, so two keys have different ids while one replaces the other.
//
// A token ends after its lifetime. Before that it can be revoked: all tokens of a user by a higher epoch, or those of one
// session. Auth lists the revocations for as long as such tokens could be valid, and verifiers fetch the list with the keys.
package identity

import "boxoffice/services/internal/id"

// Caller is the user of a verified token: whose request it is.
type Caller struct {
	ID    id.User
	Email string
	// Epoch is the user's epoch when the token was issued. A revocation of all tokens of the user raises it.
	Epoch int
	// Session is the id of the session to which the token belongs.
	Session string
}

// issuedBy is the "iss" claim of every token.
const issuedBy = "boxoffice/auth"
