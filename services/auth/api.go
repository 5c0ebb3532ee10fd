package main

import (
	"errors"
	"log/slog"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// api is the REST API for clients, and the keys and revocations for other services.
type api struct {
	store       *store
	passwords   *passwords
	revocations *revocations
	orders      orders
	issuer      *identity.Issuer
	verifier    *identity.Verifier
	cookies     identity.CookieSecurity
}

func (a *api) register(app *fiber.App) {
	requireUser := identity.RequireUser(a.verifier)
	users := app.Group("/api/users")
	users.Post("/signup", a.signUp)
	users.Post("/signin", a.signIn)
	users.Post("/refresh", a.refresh)
	users.Post("/signout", a.signOut)
	users.Post("/signout-everywhere", requireUser, a.signOutEverywhere)
	users.Post("/password", requireUser, a.changePassword)
	users.Get("/currentuser", identity.OptionalUser(a.verifier), a.currentUser)
	users.Delete("/currentuser", requireUser, a.deleteUser)

	app.Get(identity.KeysPath, a.keys)
	app.Get(identity.RevocationsPath, a.listRevocations)
}

// credentials are the request to sign up or in. ParseEmail and CheckPassword have the rules for them.
type credentials struct {
	Email    string `json:"email" validate:"required"`
	Password string `json:"password" validate:"required"`
	form
}

// form is in which form a client gets its token.
type form struct {
	// CookieOnly is for pages in browsers: the response has the token in its cookie alone, where no script can read it.
	CookieOnly bool `json:"cookieOnly"`
}

// userResponse is a user as clients see it.
type userResponse struct {
	ID        id.User         `json:"id"`
	Email     string          `json:"email"`
	CreatedAt clock.Timestamp `json:"createdAt"`
}

func responseOf(u User) userResponse { return userResponse{u.ID, u.Email, clock.Stamp(u.CreatedAt)} }

// signedInResponse is the response to signing up and in. The cookie has the same token.
type signedInResponse struct {
	User userResponse `json:"user"`
	// Token is absent if the client asked for cookies only.
	Token string `json:"token,omitempty"`
}

func (a *api) signUp(c *fiber.Ctx) error {
	request, err := rest.Decode[credentials](c)
	if err != nil {
		return err
	}
	email, err := parseNew(request)
	if err != nil {
		return err
	}
	idempotencyKey, err := idempotency.KeyOf(c)
	if err != nil {
		return err
	}
	key := signUpKey(idempotencyKey)
	ctx := rest.Context(c)
	if err := a.passwords.Admit(); err != nil {
		return err
	}
	// The commit decides whether the email is free. This check saves the time of hashing.
	if err := a.store.CheckEmailIsFree(ctx, email); err != nil {
		return a.repeatSignUp(c, email, request, key, err)
	}
	hash, err := a.passwords.Hash(ctx, request.Password)
	if err != nil {
		return err
	}
	in, err := a.store.SignUp(ctx, email, hash, key)
	if err != nil {
		return a.repeatSignUp(c, email, request, key, err)
	}
	return a.respondSignedIn(c.Status(fiber.StatusCreated), in, request.form)
}

// repeatSignUp responds to a sign-up that was refused. If the same one, with the same Idempotency-Key, has made the user, its
// response was perhaps lost: it begins another session. No response is kept, because that has a token; so the password must be
// right, and a wrong one counts as in a sign-in. Any other sign-up gets refused.
func (a *api) repeatSignUp(c *fiber.Ctx, email string, request credentials, key string, refused error) error {
	if key == "" || !errors.Is(refused, errEmailInUse) {
		return refused
	}
	ctx := rest.Context(c)
	user, err := a.store.UserOfEmail(ctx, email)
	if err != nil {
		return err
	}
	if !user.WasMadeWith(key, a.store.clock()) {
		return refused
	}
	right, err := a.passwords.Match(ctx, email, user.PasswordHash, request.Password)
	switch {
	case problem.KindOf(err) == problem.TooManyRequests: // too many wrong passwords
		return refused
	case err != nil:
		return err
	case !right:
		return refused
	}
	in, err := a.store.SignIn(ctx, user)
	if err != nil {
		return err
	}
	c.Set(idempotency.ReplayedHeader, "true")
	return a.respondSignedIn(c.Status(fiber.StatusCreated), in, request.form)
}

// parseNew returns the email of new credentials in its normal form. Its problem has the errors of both members.
func parseNew(request credentials) (string, error) {
	email, emailErr := ParseEmail(request.Email)
	var invalid *problem.Error
	for _, err := range []error{emailErr, CheckPassword(request.Password)} {
		p, ok := errors.AsType[*problem.Error](err)
		switch {
		case !ok:
		case invalid == nil:
			invalid = p
		default:
			invalid = &problem.Error{Kind: problem.Invalid, Details: append(invalid.Details[:1:1], p.Details...)}
		}
	}
	if invalid != nil {
		return "", invalid
	}
	return email, nil
}

// signIn returns errCredentials for a wrong email and for a wrong password. Neither the response nor its time reveals which one it was:
// for an email without a user, the same is read and computed.
func (a *api) signIn(c *fiber.Ctx) error {
	request, err := rest.Decode[credentials](c)
	if err != nil {
		return err
	}
	email, err := ParseEmail(request.Email)
	if err != nil {
		// No user can have this email, which is no secret. So this response may be faster.
		return errCredentials
	}
	ctx := rest.Context(c)
	if err := a.passwords.Admit(); err != nil {
		return err
	}
	user, err := a.store.UserOfEmail(ctx, email)
	if err != nil {
		return err
	}
	right, err := a.passwords.Match(ctx, email, user.PasswordHash, request.Password)
	switch {
	case err != nil:
		return err
	case !right:
		return errCredentials
	}
	in, err := a.store.SignIn(ctx, user)
	if err != nil {
		return err
	}
	return a.respondSignedIn(c, in, request.form)
}

// respondSignedIn responds with a new token, and sets the cookies of the token and of the session's refresh token.
func (a *api) respondSignedIn(c *fiber.Ctx, in signedIn, form form) error {
	token, expires, err := a.issuer.Issue(identity.Caller{ID: in.ID, Email: in.Email, Epoch: in.Epoch, Session: in.Session.ID}, a.store.clock())
	if err != nil {
		return err
	}
	rest.Annotate(c, slog.String("userId", string(in.ID)))
	identity.SetCookie(c, a.cookies, token, expires)
	if in.Session.ID != "" {
		identity.SetRefreshCookie(c, a.cookies, in.Refresh.String(), in.Session.ExpiresAt)
	}
	if form.CookieOnly {
		token = ""
	}
	return c.JSON(signedInResponse{User: responseOf(in.User), Token: token})
}

// clearCookies removes both cookies from the browser.
func (a *api) clearCookies(c *fiber.Ctx) {
	identity.ClearCookie(c, a.cookies)
	identity.ClearRefreshCookie(c, a.cookies)
}

func (a *api) refresh(c *fiber.Ctx) error {
	token, err := parseRefreshToken(identity.RefreshTokenOf(c))
	if err != nil {
		return err
	}
	request, err := refreshForm(c)
	if err != nil {
		return err
	}
	in, err := a.store.Refresh(rest.Context(c), token)
	if errors.Is(err, errSession) {
		identity.ClearRefreshCookie(c, a.cookies)
	}
	if err != nil {
		return err
	}
	return a.respondSignedIn(c, in, request)
}

// refreshForm reads the body, which a refresh need not have. It is read before the refresh token is used, because that works once.
func refreshForm(c *fiber.Ctx) (form, error) {
	if len(c.BodyRaw()) == 0 {
		return form{}, nil
	}
	return rest.Decode[form](c)
}

// signOut clears the cookies, also without a valid token, and also if the session cannot be ended: the next person at the device must
// not be signed in. It ends the session of the refresh token, and that of the token even if it has
// expired. (Browsers delete the token's cookie when it expires, so often there is only the refresh token.)
func (a *api) signOut(c *fiber.Ctx) error {
	a.clearCookies(c)
	if refresh, err := parseRefreshToken(identity.RefreshTokenOf(c)); err == nil {
		if err := a.store.SignOutRefresh(rest.Context(c), refresh); err != nil {
			return err
		}
	}
	if token, err := identity.TokenOf(c); err == nil {
		if caller, err := a.verifier.Ended(rest.Context(c), token); err == nil {
			if err := a.store.SignOut(rest.Context(c), caller); err != nil {
				return err
			}
		}
	}
	return c.JSON(struct{}{})
}

func (a *api) signOutEverywhere(c *fiber.Ctx) error {
	caller, _ := identity.CallerOf(c)
	if err := a.store.SignOutEverywhere(rest.Context(c), caller); err != nil {
		return err
	}
	a.clearCookies(c)
	return c.JSON(struct{}{})
}

type passwordChange struct {
	OldPassword string `json:"oldPassword" validate:"required"`
	NewPassword string `json:"newPassword" validate:"required"`
	form
}

func (a *api) changePassword(c *fiber.Ctx) error {
	request, err := rest.Decode[passwordChange](c)
	if err != nil {
		return err
	}
	if err := CheckPassword(request.NewPassword); err != nil {
		return inField(err, "newPassword")
	}
	ctx := rest.Context(c)
	caller, _ := identity.CallerOf(c)
	user, err := a.confirm(c, request.OldPassword, "oldPassword")
	if err != nil {
		return err
	}
	hash, err := a.passwords.Hash(ctx, request.NewPassword)
	if err != nil {
		return err
	}
	in, err := a.store.ChangePassword(ctx, caller, user.PasswordHash, hash)
	if err != nil {
		return err
	}
	return a.respondSignedIn(c, in, request.form)
}

// confirmation is the password of a signed-in user, which is required once more before the account is deleted.
type confirmation struct {
	Password string `json:"password" validate:"required"`
}

// deleteUser deletes an account whose orders are settled. Orders itself cancels what is reserved after this check and before the commit,
// when it handles the event.
func (a *api) deleteUser(c *fiber.Ctx) error {
	request, err := rest.Decode[confirmation](c)
	if err != nil {
		return err
	}
	token, err := identity.TokenOf(c)
	if err != nil {
		return err
	}
	if _, err := a.confirm(c, request.Password, "password"); err != nil {
		return err
	}
	if err := a.orders.CheckSettled(rest.Context(c), token); err != nil {
		return err
	}
	caller, _ := identity.CallerOf(c)
	if err := a.store.Delete(rest.Context(c), caller); err != nil {
		return err
	}
	a.clearCookies(c)
	return c.SendStatus(fiber.StatusNoContent)
}

// confirm returns the signed-in user after checking the password once more. A wrong one counts as a failed sign-in; its problem names
// the field.
func (a *api) confirm(c *fiber.Ctx, password, field string) (User, error) {
	ctx := rest.Context(c)
	if err := a.passwords.Admit(); err != nil {
		return User{}, err
	}
	caller, _ := identity.CallerOf(c)
	user, err := a.store.User(ctx, caller)
	if err != nil {
		return User{}, err
	}
	right, err := a.passwords.Match(ctx, user.Email, user.PasswordHash, password)
	switch {
	case err != nil:
		return User{}, err
	case !right:
		return User{}, inField(errPassword, field)
	}
	return user, nil
}

// inField sets the member of the request that a problem is about.
func inField(err error, field string) error {
	if p, ok := errors.AsType[*problem.Error](err); ok {
		return p.WithField(field)
	}
	return err
}

func (a *api) currentUser(c *fiber.Ctx) error {
	var response struct {
		CurrentUser *userResponse `json:"currentUser"`
	}
	if caller, ok := identity.CallerOf(c); ok {
		user, err := a.store.User(rest.Context(c), caller)
		switch {
		case errors.Is(err, identity.ErrRevoked):
		case err != nil:
			return err
		default:
			current := responseOf(user)
			response.CurrentUser = &current
		}
	}
	return c.JSON(response)
}

// keys responds with the public keys that verify tokens.
func (a *api) keys(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "public, max-age=60")
	return c.JSON(a.issuer.KeySet())
}

// listRevocations responds with all revocations, or with 304 to a service that has the current list.
func (a *api) listRevocations(c *fiber.Ctx) error {
	list, err := a.revocations.List(rest.Context(c))
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
