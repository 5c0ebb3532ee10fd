package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/signing"
)

// This file is the life of a pass: what lets the buyer of a ticket into its show.
//
//	                          Chain.Use: its holder is checked in
//	          Order.Complete      │
//	 no pass ─────────────▶ valid ┴──▶ used
//	                          │ ▲
//	      the place is resold │ │ that sale is given back (transfer.go)
//	                          ▼ │
//	                         void       The pass of an order that is cancelled is void for ever, also if it was used.
//
// There is no document of a pass: it is what an order shows. So a pass is valid, used or void from the same transaction on in which
// its order changes.
//
// The code of a pass is a signed text that names the order, the ticket and the show (passCodes). A verifier with the key set can verify
// the text without this service, but not whether the pass was used or is void.

var (
	errNoPass   = problem.New(problem.Conflict, "no_pass", "This order has no pass: only a complete order of a ticket with a show has one.")
	errPassVoid = problem.New(problem.Conflict, "pass_void", "This pass is void: its order was cancelled, or its place was sold again.")

	errPassInvalid = problem.New(problem.Invalid, "pass_invalid", "This is not the code of a pass of this system.").WithField("code")
	errWrongShow   = problem.New(problem.Conflict, "wrong_show", "This pass is for another show.").WithField("code")
	errNotOwner    = problem.New(problem.Forbidden, "not_show_owner", "Only the owner of this show may check its passes in.")
	// errUsed has a member more in the response: usedAt, when the pass was used.
	errUsed = problem.New(problem.Conflict, "already_used", "This pass was used already.").WithField("code")
)

// CheckPass refuses an order without a valid or used pass: errNoPass if it never had one, errPassVoid if it has none any more.
func (o *Order) CheckPass() error {
	switch {
	case o.Ticket.ShowID == "", o.Status == Created, o.Status == Cancelled && !o.wasComplete():
		return errNoPass
	case o.Status == Cancelled, o.isResold():
		return errPassVoid
	}
	return nil
}

// CheckShowOwner refuses (errNotOwner) everybody but the owner of the ticket's show.
func (s *Seat) CheckShowOwner(user id.User) error {
	owner := s.ShowOwnerID
	if owner == "" && s.ResaleOf == nil {
		owner = s.SellerID
	}
	if owner != user {
		return errNotOwner
	}
	return nil
}

// Use checks the holder of a pass in, at the show's door: it happens once. It refuses
//   - everybody but the show's owner (errNotOwner);
//   - a pass that is void or that there never was (CheckPass), and one that was used (errUsed).
//
// An unpaid order that has reserved the place is cancelled: the holder of a valid pass comes in. Otherwise strangers could
// keep its holder out until the show has begun, by reservations that they never pay.
func (c *Chain) Use(owner id.User, now time.Time, terms Terms) error {
	o := c.Order
	if err := c.Seat.CheckShowOwner(owner); err != nil {
		return err
	}
	if err := o.CheckPass(); err != nil {
		return err
	}
	if o.isUsed() {
		return errUsed.WithMember("usedAt", clock.Stamp(o.UsedAt))
	}
	if o.Transfer != nil {
		if err := c.endBuyer(now, terms); err != nil {
			return err
		}
	}
	o.UsedAt = now
	return o.changePass(c.Seat, now)
}

func (o *Order) isUsed() bool { return !o.UsedAt.IsZero() }

// wasComplete reports whether the order is or was complete. (An earlier release did not store when.)
func (o *Order) wasComplete() bool { return !o.CompletedAt.IsZero() || o.PaymentID != "" }

// changePass is a change of a complete order that leads to order.updated. The seat's sequence counts it, so that consumers put it in
// order with the changes of the reservation.
func (o *Order) changePass(s *Seat, now time.Time) error {
	if !s.isHeldBy(o.ID) {
		return errNotHeld
	}
	s.Sequence++
	o.change(Complete, s, now)
	o.PassChanged = true
	return nil
}

const (
	passIssuer   = "boxoffice/orders"
	passAudience = "boxoffice/checkin"
	// passType is the header "typ" of a code, so that no verifier takes it for a token of another kind.
	passType = "pass+jwt"
	// longestCode bounds the codes that are parsed. Those of passes have about 500 characters.
	longestCode = 2000
)

// passClaims are what a code states. The same order always has the same.
type passClaims struct {
	Issuer   string    `json:"iss"`
	Audience string    `json:"aud"`
	Order    id.Order  `json:"order"`
	Ticket   id.Ticket `json:"ticket"`
	Show     id.Show   `json:"show"`
	IssuedAt int64     `json:"iat"`
}

// PassClaims are the claims of the order's pass. They were issued when the order became complete.
func (o *Order) PassClaims() passClaims {
	at := o.CompletedAt
	if at.IsZero() { // an earlier release completed it
		at = o.CreatedAt
	}
	return passClaims{Issuer: passIssuer, Audience: passAudience, Order: o.ID, Ticket: o.Ticket.ID, Show: o.Ticket.ShowID, IssuedAt: at.Unix()}
}

// The methods of jwt.Claims. A pass has no end of its own.

func (c passClaims) GetIssuer() (string, error)             { return c.Issuer, nil }
func (c passClaims) GetAudience() (jwt.ClaimStrings, error) { return jwt.ClaimStrings{c.Audience}, nil }
func (c passClaims) GetSubject() (string, error)            { return "", nil }
func (c passClaims) GetIssuedAt() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(c.IssuedAt, 0)), nil
}
func (c passClaims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (c passClaims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }

// passCodes makes and verifies the codes of passes: compact JWS, signed with Ed25519. Its methods may be called in parallel.
type passCodes struct {
	keys   atomic.Pointer[passKeys]
	parser *jwt.Parser
}

// passKeys are the key that signs, and the public keys of all codes that are accepted: as clients get them, and by their ids.
type passKeys struct {
	private ed25519.PrivateKey
	set     signing.KeySet
	public  map[string]ed25519.PublicKey
}

func newPassCodes(keys signing.Keys) *passCodes {
	p := &passCodes{parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithIssuer(passIssuer), jwt.WithAudience(passAudience),
	)}
	p.SetKeys(keys)
	return p
}

// SetKeys replaces the key that signs, and the others, whose codes are valid too.
func (p *passCodes) SetKeys(keys signing.Keys) {
	set := keys.Set()
	p.keys.Store(&passKeys{private: keys.Private, set: set, public: set.Public()})
}

// KeySet returns the public keys with which codes are verified. The first key is the one that signs.
func (p *passCodes) KeySet() signing.KeySet { return p.keys.Load().set }

// Sign returns the code of claims. It is the same until another key signs.
func (p *passCodes) Sign(claims passClaims) (string, error) {
	keys := p.keys.Load()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	unsigned.Header["typ"] = passType
	unsigned.Header["kid"] = keys.set.Keys[0].ID
	code, err := unsigned.SignedString(keys.private)
	if err != nil {
		return "", fmt.Errorf("sign the pass of order %s: %w", claims.Order, err)
	}
	return code, nil
}

var errForeignCode = errors.New("it is not signed as a pass by a key of the set")

// Verify returns the claims of a code; errPassInvalid if this service has not signed it, as a pass.
func (p *passCodes) Verify(code string) (claims passClaims, err error) {
	if len(code) > longestCode {
		return passClaims{}, errPassInvalid
	}
	_, err = p.parser.ParseWithClaims(code, &claims, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		key, known := p.keys.Load().public[kid]
		if !known || t.Header["typ"] != passType {
			return nil, errForeignCode
		}
		return key, nil
	})
	if err != nil {
		return passClaims{}, errPassInvalid.Because(err)
	}
	return claims, nil
}
