package main

import (
	"net/http/httptest"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
)

func TestFormOf_IsThatOfTheParameterElseOfTheHeader(t *testing.T) {
	for _, tt := range []struct {
		name, query, accept string
		forms               []form
		want                string
		refusal             string // the message of the refusal; "" for none
	}{
		{name: "nothing is asked for", forms: passForms, want: "application/json"},
		{name: "a browser opens it", accept: "text/html,application/xhtml+xml,*/*;q=0.8", forms: passForms, want: "text/html"},
		{name: "an image element", accept: "image/svg+xml,image/*;q=0.8", forms: passForms, want: "image/svg+xml"},
		{name: "the parameter decides", query: "?format=json", accept: "text/html", forms: passForms, want: "application/json"},
		{name: "none of the forms is accepted", accept: "audio/ogg", forms: salesForms, want: "application/json"},
		{name: "a file", accept: "text/csv", forms: salesForms, want: "text/csv"},
		{name: "a format of something else", query: "?format=csv", forms: passForms, refusal: "Format must be json or svg."},
		{name: "an empty format", query: "?format=", forms: passForms, refusal: "Format must be json or svg."},
		{name: "an unknown format", query: "?format=pdf", forms: salesForms, refusal: "Format must be json or csv."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got string
			var err error
			app := fiber.New()
			app.Get("/", func(c *fiber.Ctx) error {
				got, err = formOf(c, tt.forms)
				return nil
			})
			request := httptest.NewRequest("GET", "/"+tt.query, nil)
			if tt.accept != "" {
				request.Header.Set("Accept", tt.accept)
			}
			response, sent := app.Test(request)
			require.NoError(t, sent)
			require.NoError(t, response.Body.Close())
			if tt.refusal != "" {
				require.ErrorContains(t, err, tt.refusal)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}
