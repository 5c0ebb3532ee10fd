package signing

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
)

// KeySet is a JWK set (RFC 7517) of public keys.
type KeySet struct {
	Keys []Key `json:"keys"`
}

// Set returns the public keys. The first is the one that signs.
func (k Keys) Set() KeySet {
	signs := NewKey(k.Private.Public().(ed25519.PublicKey))
	set := KeySet{Keys: []Key{signs}}
	for _, public := range k.Others {
		if key := NewKey(public); key.ID != signs.ID {
			set.Keys = append(set.Keys, key)
		}
	}
	return set
}

// Public returns those keys of the set that may sign here, by their ids.
func (s KeySet) Public() map[string]ed25519.PublicKey {
	keys := make(map[string]ed25519.PublicKey, len(s.Keys))
	for _, key := range s.Keys {
		if public, ok := key.Public(); ok {
			keys[key.ID] = public
		}
	}
	return keys
}

// Key is an Ed25519 public key as a JWK (RFC 8037).
type Key struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	ID    string `json:"kid"`
	Use   string `json:"use"`
	Alg   string `json:"alg"`
}

// NewKey returns the JWK of a public key. Its id is its thumbprint, so two keys have different ids while one replaces the other.
func NewKey(public ed25519.PublicKey) Key {
	x := base64.RawURLEncoding.EncodeToString(public)
	return Key{Type: "OKP", Curve: "Ed25519", X: x, ID: thumbprint(x), Use: "sig", Alg: "EdDSA"}
}

// thumbprint is that of RFC 7638: the hash of the required members, in the order of their names.
func thumbprint(x string) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Public returns the key if it is one that may sign here.
func (k Key) Public() (ed25519.PublicKey, bool) {
	if k.Type != "OKP" || k.Curve != "Ed25519" || k.ID == "" || k.Use != "" && k.Use != "sig" || k.Alg != "" && k.Alg != "EdDSA" {
		return nil, false
	}
	x, err := base64.RawURLEncoding.DecodeString(k.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return nil, false
	}
	return ed25519.PublicKey(x), true
}
