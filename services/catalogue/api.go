package main

import (
	"context"
	"errors"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

// api is the REST API of shows. Everybody may read; owners must be signed in.
type api struct{ store *store }

func (a *api) register(app *fiber.App, signedIn fiber.Handler) {
	shows := app.Group("/api/shows")
	shows.Get("/", identity.OwnIf("owner", signedIn), a.list)
	shows.Get("/:id", a.get)
	shows.Post("/", signedIn, a.announce)
	shows.Put("/:id", signedIn, a.update)
	shows.Delete("/:id", signedIn, a.cancel)
	shows.Put("/:id/image", signedIn, a.setImage)
	shows.Delete("/:id/image", signedIn, a.removeImage)
	shows.Get("/:id/images/:image", a.image)
}

// isUpload reports whether a request is one to set an image, which has a longer body than others.
func isUpload(method, path string) bool {
	parts := strings.Split(strings.TrimSuffix(path, "/"), "/")
	return method == fiber.MethodPut && len(parts) == 5 && parts[1] == "api" && parts[2] == "shows" && parts[4] == "image"
}

// showResponse is a show as clients get it.
type showResponse struct {
	ID          id.Show           `json:"id"`
	Name        string            `json:"name"`
	Venue       string            `json:"venue"`
	City        string            `json:"city"`
	Country     string            `json:"country"`
	StartsAt    clock.Timestamp   `json:"startsAt"`
	TimeZone    string            `json:"timeZone"`
	Category    string            `json:"category"`
	Description string            `json:"description,omitempty"`
	MaxMarkup   *int              `json:"maxMarkup,omitempty"`
	Image       *imageResponse    `json:"image,omitempty"`
	Status      events.ShowStatus `json:"status"`
	UserID      id.User           `json:"userId"`
	Version     int               `json:"version"`
	CreatedAt   clock.Timestamp   `json:"createdAt"`
	UpdatedAt   clock.Timestamp   `json:"updatedAt"`
}

type imageResponse struct {
	URL    string `json:"url"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

func responseOf(s Show) showResponse {
	response := showResponse{
		ID:          s.ID,
		Name:        s.Name,
		Venue:       s.Venue,
		City:        s.City,
		Country:     s.Country,
		StartsAt:    clock.Stamp(s.StartsAt),
		TimeZone:    s.TimeZone,
		Category:    s.Category,
		Description: s.Description,
		MaxMarkup:   s.MaxMarkup,
		Status:      events.ShowStatusScheduled,
		UserID:      s.UserID,
		Version:     s.Version,
		CreatedAt:   clock.Stamp(s.CreatedAt),
		UpdatedAt:   clock.Stamp(s.UpdatedAt),
	}
	if s.Image != nil {
		response.Image = &imageResponse{s.imagePath(), s.Image.Width, s.Image.Height}
	}
	if s.Cancelled {
		response.Status = events.ShowStatusCancelled
	}
	return response
}

// detailsRequest are a show's details. Details.Check has the rules that are more than a length.
type detailsRequest struct {
	Name        string `json:"name" validate:"required,notblank,printable,max=200"`
	Venue       string `json:"venue" validate:"required,notblank,printable,max=200"`
	City        string `json:"city" validate:"required,notblank,printable,max=100"`
	Country     string `json:"country" validate:"required"`
	StartsAt    string `json:"startsAt" validate:"required"`
	TimeZone    string `json:"timeZone" validate:"required"`
	Category    string `json:"category" validate:"required"`
	Description string `json:"description"`
	MaxMarkup   *int   `json:"maxMarkup" validate:"omitempty,min=0,max=1000"`
}

// details returns the details of the request, in UTC and whole milliseconds, and a problem about all that is wrong.
func (r detailsRequest) details() (Details, *problem.Error) {
	d := Details{
		Name: r.Name, Venue: r.Venue, City: r.City, Country: r.Country, TimeZone: r.TimeZone, Category: r.Category, MaxMarkup: r.MaxMarkup,
		Description: strings.ReplaceAll(r.Description, "\r\n", "\n"),
	}
	refused := d.Check()
	startsAt, err := time.Parse(time.RFC3339, r.StartsAt)
	if err != nil {
		p := problem.New(problem.Invalid, "invalid", "Starts at must be a time of RFC 3339, for example 2030-06-12T20:00:00+02:00.").WithField("startsAt")
		if refused != nil {
			p = refused.And(p)
		}
		refused = p
	}
	d.StartsAt = clock.Stamp(startsAt).Time
	return d, refused
}

type updateRequest struct {
	detailsRequest
	Version int `json:"version" validate:"omitempty,min=1"`
}

// decode is rest.Decode for a request with details. The problem names all that is wrong, each member once.
func decode[T interface {
	details() (Details, *problem.Error)
}](c *fiber.Ctx) (T, Details, error) {
	request, err := rest.Decode[T](c)
	invalid, broken := errors.AsType[*problem.Error](err)
	if err != nil && (!broken || invalid.Kind != problem.Invalid || !slices.ContainsFunc(invalid.Details, func(d problem.Detail) bool { return d.Field != "" })) {
		return request, Details{}, err
	}
	details, refused := request.details()
	switch {
	case refused == nil:
		return request, details, err
	case err == nil:
		return request, details, refused
	case invalid.Details[0].Code == "wrong_type": // the members were not read
		return request, details, err
	}
	for _, detail := range refused.Details {
		if !slices.ContainsFunc(invalid.Details, func(d problem.Detail) bool { return d.Field == detail.Field }) {
			invalid = invalid.And(&problem.Error{Kind: problem.Invalid, Details: []problem.Detail{detail}})
		}
	}
	return request, details, invalid
}

func (a *api) announce(c *fiber.Ctx) error {
	_, details, err := decode[detailsRequest](c)
	if err != nil {
		return err
	}
	owner := identity.UserIDOf(c)
	return idempotency.Do(c, a.store.documents, owner, func(ctx context.Context) (*state.Change, idempotency.Response, error) {
		change, show, err := a.store.Announce(ctx, owner, details)
		if err != nil {
			return nil, idempotency.Response{}, err
		}
		return change, idempotency.Response{
			Status: fiber.StatusCreated, Location: "/api/shows/" + string(show.ID), Version: show.Version, Body: responseOf(show),
		}, nil
	})
}

// list lists all shows, or those of the caller who asks for the own ones (owner=me).
func (a *api) list(c *fiber.Ctx) error {
	limit, cursor, err := rest.Paging(c)
	if err != nil {
		return err
	}
	var shows []Show
	var next string
	if owner, own := identity.CallerOf(c); own {
		shows, next, err = a.store.ShowsOf(rest.Context(c), owner.ID, limit, cursor)
	} else {
		shows, next, err = a.store.Shows(rest.Context(c), limit, cursor)
	}
	if err != nil {
		return err
	}
	return rest.SendPage(c, shows, next, responseOf)
}

func (a *api) get(c *fiber.Ctx) error {
	show, err := rest.PathID[id.Show](c, "id")
	if err != nil {
		return err
	}
	found, err := a.store.Show(rest.Context(c), show)
	if err != nil {
		return err
	}
	return respond(c, found)
}

func (a *api) update(c *fiber.Ctx) error {
	show, err := rest.PathID[id.Show](c, "id")
	if err != nil {
		return err
	}
	request, details, err := decode[updateRequest](c)
	if err != nil {
		return err
	}
	expected, err := rest.ExpectedVersion[ExpectedVersion](c, request.Version)
	if err != nil {
		return err
	}
	updated, err := a.store.Update(rest.Context(c), show, identity.UserIDOf(c), expected, details)
	if err != nil {
		return err
	}
	return respond(c, updated)
}

func (a *api) cancel(c *fiber.Ctx) error {
	show, err := rest.PathID[id.Show](c, "id")
	if err != nil {
		return err
	}
	expected, err := rest.ExpectedVersion[ExpectedVersion](c, 0)
	if err != nil {
		return err
	}
	if err := a.store.Cancel(rest.Context(c), show, identity.UserIDOf(c), expected); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (a *api) setImage(c *fiber.Ctx) error {
	show, err := rest.PathID[id.Show](c, "id")
	if err != nil {
		return err
	}
	upload, err := readUpload(c)
	if err != nil {
		return err
	}
	expected, err := rest.ExpectedVersion[ExpectedVersion](c, 0)
	if err != nil {
		return err
	}
	updated, err := a.store.SetImage(rest.Context(c), show, identity.UserIDOf(c), expected, upload)
	if err != nil {
		return err
	}
	return respond(c, updated)
}

func (a *api) removeImage(c *fiber.Ctx) error {
	show, err := rest.PathID[id.Show](c, "id")
	if err != nil {
		return err
	}
	expected, err := rest.ExpectedVersion[ExpectedVersion](c, 0)
	if err != nil {
		return err
	}
	if err := a.store.RemoveImage(rest.Context(c), show, identity.UserIDOf(c), expected); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// image responds with an image. What a URL names never changes, so caches may keep it for a year.
func (a *api) image(c *fiber.Ctx) error {
	show, err := rest.PathID[id.Show](c, "id")
	if err != nil {
		return err
	}
	image, err := rest.PathID[ImageID](c, "image")
	if err != nil {
		return err
	}
	etag := `"` + string(image) + `"`
	if rest.IsCurrent(c, etag) {
		if err := a.store.HasImage(rest.Context(c), show, image); err != nil {
			return err
		}
		allowCaching(c, etag)
		return c.SendStatus(fiber.StatusNotModified)
	}
	jpeg, err := a.store.Image(rest.Context(c), show, image)
	if err != nil {
		return err
	}
	allowCaching(c, etag)
	c.Set(fiber.HeaderContentType, "image/jpeg")
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	return c.Send(jpeg)
}

func allowCaching(c *fiber.Ctx, etag string) {
	c.Set(fiber.HeaderETag, etag)
	c.Set(fiber.HeaderCacheControl, "public, max-age=31536000, immutable")
}

// respond sends a show.
func respond(c *fiber.Ctx, show Show) error {
	rest.SetETag(c, show.Version)
	return c.JSON(responseOf(show))
}

// readUpload reads the body as an image, and does not decode it. The app has bounded its length (isUpload).
func readUpload(c *fiber.Ctx) (Upload, error) {
	if encoding := c.Get(fiber.HeaderContentEncoding); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return Upload{}, problem.New(problem.UnsupportedMedia, "unsupported_encoding", "The body must be sent without compression.").
			WithField("Content-Encoding")
	}
	mediaType, _, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil || !slices.Contains(mediaTypes, mediaType) {
		return Upload{}, problem.New(problem.UnsupportedMedia, "unsupported_media_type", "The body must be an image: send it with a Content-Type that is one of %s.", strings.Join(mediaTypes, ", ")).
			WithField("Content-Type")
	}
	return Upload{mediaType, c.BodyRaw()}, nil
}
