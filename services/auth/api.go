package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// api is what clients call.
type api struct {
	accounts *accounts
	issuer   *identity.Issuer
	cookie   identity.CookieSecurity
}

const keySetPath = "/.well-known/jwks.json"

// routes are this service's REST API, and the keys for the other services.
func (a api) routes(app *fiber.App) {
	// Its own keys are at hand.
	verifier := identity.NewVerifier(func(context.Context) (identity.KeySet, error) { return a.issuer.KeySet(), nil })
	users := app.Group("/api/users")
	users.Post("/signup", a.signUp)
	users.Post("/signin", a.signIn)
	users.Post("/signout", a.signOut)
	users.Get("/currentuser", identity.OptionalUser(verifier), a.currentUser)

	app.Get(keySetPath, func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderCacheControl, "public, max-age=300")
		return c.JSON(a.issuer.KeySet())
	})
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
	user, err := a.accounts.SignUp(rest.Context(c), email, request.Password)
	if err != nil {
		return err
	}
	return a.welcome(c.Status(fiber.StatusCreated), user)
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
	user, err := a.accounts.SignIn(rest.Context(c), email, request.Password)
	if err != nil {
		return err
	}
	return a.welcome(c, user)
}

// welcome gives the user a token.
func (a api) welcome(c *fiber.Ctx, user User) error {
	token, expires, err := a.issuer.Issue(identity.User{ID: user.ID, Email: user.Email}, time.Now())
	if err != nil {
		return err
	}
	rest.Annotate(c, slog.String("userId", user.ID))
	identity.SetCookie(c, a.cookie, token, expires)
	return c.JSON(signedIn{User: answer(user), Token: token})
}

func (a api) signOut(c *fiber.Ctx) error {
	identity.ClearCookie(c, a.cookie)
	return c.JSON(struct{}{})
}

func (a api) currentUser(c *fiber.Ctx) error {
	var current struct {
		CurrentUser *userAnswer `json:"currentUser"`
	}
	if asking, ok := identity.UserOf(c); ok {
		user, found, err := a.accounts.User(rest.Context(c), asking.ID)
		if err != nil {
			return err
		}
		if found {
			u := answer(user)
			current.CurrentUser = &u
		}
	}
	return c.JSON(current)
}
