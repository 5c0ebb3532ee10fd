package main

import (
	"errors"
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// api is what clients and other services call.
type api struct {
	accounts *accounts
	issuer   *identity.Issuer
	verifier *identity.Verifier
	cookie   identity.CookieSecurity
}

// routes are this service's REST API, and keys and revocations for the other services.
func (a api) routes(app *fiber.App) {
	signedIn := identity.RequireUser(a.verifier)
	users := app.Group("/api/users")
	users.Post("/signup", a.signUp)
	users.Post("/signin", a.signIn)
	users.Post("/refresh", a.refresh)
	users.Post("/signout", a.signOut)
	users.Post("/signout-everywhere", signedIn, a.signOutEverywhere)
	users.Post("/password", signedIn, a.changePassword)
	users.Get("/currentuser", identity.OptionalUser(a.verifier), a.currentUser)
	users.Delete("/currentuser", signedIn, a.deleteUser)

	app.Get(identity.KeysPath, func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderCacheControl, "public, max-age=60")
		return c.JSON(a.issuer.KeySet())
	})
	app.Get(identity.RevocationsPath, a.revocations)
}

// credentials are what somebody signs up or in with. What a valid email and password are, the domain says.
type credentials struct {
	Email    string `json:"email" validate:"required"`
	Password string `json:"password" validate:"required"`
}

// userAnswer is a user as clients see it.
type userAnswer struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	CreatedAt time.Time `json:"createdAt"`
}

func answer(u User) userAnswer { return userAnswer{u.ID, u.Email, u.CreatedAt} }

// signedIn answers signing up and in. Token is the same that the cookie holds.
type signedIn struct {
	User  userAnswer `json:"user"`
	Token string     `json:"token"`
}

func (a api) signUp(c *fiber.Ctx) error {
	request, err := rest.Decode[credentials](c)
	if err != nil {
		return err
	}
	email, err := valid(request)
	if err != nil {
		return err
	}
	in, err := a.accounts.SignUp(rest.Context(c), email, request.Password)
	if err != nil {
		return err
	}
	return a.welcome(c.Status(fiber.StatusCreated), in)
}

// valid returns the email in its normal form, and else all that is wrong at once.
func valid(request credentials) (string, error) {
	email, emailErr := ParseEmail(request.Email)
	var wrong *problem.Error
	for _, err := range []error{emailErr, CheckPassword(request.Password)} {
		p, ok := errors.AsType[*problem.Error](err)
		switch {
		case !ok:
		case wrong == nil:
			wrong = p
		default:
			wrong = &problem.Error{Kind: problem.Invalid, Details: append(wrong.Details[:1:1], p.Details...)}
		}
	}
	if wrong != nil {
		return "", wrong
	}
	return email, nil
}

func (a api) signIn(c *fiber.Ctx) error {
	request, err := rest.Decode[credentials](c)
	if err != nil {
		return err
	}
	email, err := ParseEmail(request.Email)
	if err != nil {
		// Nobody can have signed up with it. It is no secret which emails can be, so it needs to take no time.
		return errCredentials
	}
	in, err := a.accounts.SignIn(rest.Context(c), email, request.Password)
	if err != nil {
		return err
	}
	return a.welcome(c, in)
}

// welcome gives the user a token, and the session's refresh token.
func (a api) welcome(c *fiber.Ctx, in signedInUser) error {
	token, expires, err := a.issuer.Issue(identity.User{ID: in.ID, Email: in.Email, Epoch: in.Epoch, Session: in.Session.ID}, time.Now())
	if err != nil {
		return err
	}
	rest.Annotate(c, slog.String("userId", in.ID))
	identity.SetCookie(c, a.cookie, token, expires)
	if in.Session.ID != "" {
		identity.SetRefreshCookie(c, a.cookie, in.Refresh.String(), in.Session.ExpiresAt)
	}
	return c.JSON(signedIn{User: answer(in.User), Token: token})
}

// farewell takes both cookies from the browser.
func (a api) farewell(c *fiber.Ctx) {
	identity.ClearCookie(c, a.cookie)
	identity.ClearRefreshCookie(c, a.cookie)
}

func (a api) refresh(c *fiber.Ctx) error {
	token, err := parseRefreshToken(identity.RefreshTokenOf(c))
	if err != nil {
		return err
	}
	in, err := a.accounts.Refresh(rest.Context(c), token)
	if errors.Is(err, errSession) {
		identity.ClearRefreshCookie(c, a.cookie)
	}
	if err != nil {
		return err
	}
	return a.welcome(c, in)
}

// signOut needs no token that is good: whoever comes with a cookie goes without. The session ends if the token says which,
// also when its time is over, or if the refresh token does: browsers drop the token's cookie when its time is over.
func (a api) signOut(c *fiber.Ctx) error {
	a.farewell(c)
	if refresh, err := parseRefreshToken(identity.RefreshTokenOf(c)); err == nil {
		if err := a.accounts.SignOutRefresh(rest.Context(c), refresh); err != nil {
			return err
		}
	}
	if token, err := identity.TokenOf(c); err == nil {
		if who, err := a.verifier.Ended(rest.Context(c), token); err == nil {
			if err := a.accounts.SignOut(rest.Context(c), who); err != nil {
				return err
			}
		}
	}
	return c.JSON(struct{}{})
}

func (a api) signOutEverywhere(c *fiber.Ctx) error {
	asking, _ := identity.UserOf(c)
	if err := a.accounts.SignOutEverywhere(rest.Context(c), asking); err != nil {
		return err
	}
	a.farewell(c)
	return c.JSON(struct{}{})
}

type passwordChange struct {
	OldPassword string `json:"oldPassword" validate:"required"`
	NewPassword string `json:"newPassword" validate:"required"`
}

func (a api) changePassword(c *fiber.Ctx) error {
	request, err := rest.Decode[passwordChange](c)
	if err != nil {
		return err
	}
	if err := CheckPassword(request.NewPassword); err != nil {
		return inField(err, "newPassword")
	}
	asking, _ := identity.UserOf(c)
	in, err := a.accounts.ChangePassword(rest.Context(c), asking, request.OldPassword, request.NewPassword)
	if err != nil {
		return inField(err, "oldPassword")
	}
	return a.welcome(c, in)
}

// confirmation is the password of somebody who is signed in, said once more for what cannot be undone.
type confirmation struct {
	Password string `json:"password" validate:"required"`
}

func (a api) deleteUser(c *fiber.Ctx) error {
	request, err := rest.Decode[confirmation](c)
	if err != nil {
		return err
	}
	asking, _ := identity.UserOf(c)
	token, err := identity.TokenOf(c)
	if err != nil {
		return err
	}
	if err := a.accounts.Delete(rest.Context(c), asking, token, request.Password); err != nil {
		return inField(err, "password")
	}
	a.farewell(c)
	return c.SendStatus(fiber.StatusNoContent)
}

// inField says in which member of the request a password is that is wrong or not valid.
func inField(err error, field string) error {
	p, ok := errors.AsType[*problem.Error](err)
	if ok && (errors.Is(p, errPassword) || p.Kind == problem.Invalid) {
		return p.WithField(field)
	}
	return err
}

func (a api) currentUser(c *fiber.Ctx) error {
	var current struct {
		CurrentUser *userAnswer `json:"currentUser"`
	}
	if asking, ok := identity.UserOf(c); ok {
		user, err := a.accounts.Account(rest.Context(c), asking)
		switch {
		case errors.Is(err, identity.ErrRevoked):
		case err != nil:
			return err
		default:
			u := answer(user.Value)
			current.CurrentUser = &u
		}
	}
	return c.JSON(current)
}

// revocations answers the other services. Who has the list already is told so.
func (a api) revocations(c *fiber.Ctx) error {
	list, err := a.accounts.revoked.List(rest.Context(c))
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "no-cache")
	c.Set(fiber.HeaderETag, list.etag)
	if c.Get(fiber.HeaderIfNoneMatch) == list.etag {
		return c.SendStatus(fiber.StatusNotModified)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(list.body)
}
