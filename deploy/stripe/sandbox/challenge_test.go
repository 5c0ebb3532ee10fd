package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
)

const secureCard = "pm_card_authenticationRequired"

// challenge confirms an intent with a return URL, and returns the page that the customer is sent to.
func (b *bench) challenge(t *testing.T, card, returnURL string) (*stripe.PaymentIntent, string) {
	t.Helper()
	params := authorizing(card, "")
	params.ReturnURL = stripe.String(returnURL)
	intent, err := b.intents.New(params)
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresAction, intent.Status)
	require.Equal(t, stripe.PaymentIntentNextActionType("redirect_to_url"), intent.NextAction.Type)
	require.Equal(t, returnURL, intent.NextAction.RedirectToURL.ReturnURL)
	return intent, intent.NextAction.RedirectToURL.URL
}

// visit sends a request as a browser does, and does not follow redirects.
func visit(t *testing.T, method, page string, form url.Values) (res *http.Response, body string) {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var err error
	if method == http.MethodPost {
		res, err = client.PostForm(page, form)
	} else {
		res, err = client.Get(page)
	}
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(text)
}

func TestChallenge_TheCustomerPassesOnThePage(t *testing.T) {
	b := newBench(t, Options{})
	intent, page := b.challenge(t, secureCard, "https://tickets.example/orders/7?lang=de#pay")
	require.Equal(t, b.url+"/3d_secure/"+intent.ID, page[:len(b.url)+len("/3d_secure/")+len(intent.ID)], "where the API was called")

	res, body := visit(t, http.MethodGet, page, nil)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, body, "USD 25.00")
	require.Contains(t, body, "3184")
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	policy := res.Header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.Contains(t, policy, "form-action 'self' https://tickets.example;", "browsers check the redirect after a form, too")
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(body)[1]
	sum := sha256.Sum256([]byte(style))
	require.Contains(t, policy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")

	for range 2 { // the second time the customer has sent the form again
		res, _ = visit(t, http.MethodPost, page, url.Values{"outcome": {"succeed"}})
		require.Equal(t, http.StatusSeeOther, res.StatusCode)
		back, err := res.Location()
		require.NoError(t, err)
		require.Equal(t, "https://tickets.example/orders/7", back.Scheme+"://"+back.Host+back.Path)
		require.Equal(t, "pay", back.Fragment)
		require.Equal(t, url.Values{"lang": {"de"}, "payment_intent": {intent.ID}, "payment_intent_client_secret": {intent.ClientSecret}}, back.Query())
	}
	intent, err := b.intents.Get(intent.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresCapture, intent.Status)
	require.Len(t, b.ledger(t).Intents, 1)

	res, _ = visit(t, http.MethodGet, page, nil)
	require.Equal(t, http.StatusSeeOther, res.StatusCode, "the back button")
}

func TestChallenge_IsInTheLanguageOfTheCustomer(t *testing.T) {
	b := newBench(t, Options{})
	_, page := b.challenge(t, secureCard, "http://localhost:8080/")
	for accept, want := range map[string][]string{
		"de-AT,de;q=0.9,en;q=0.5": {`lang="de"`, "Zahlung freigeben", "25,00 USD"},
		"fr":                      {`lang="en"`, "Confirm payment", "USD 25.00"},
	} {
		for url, texts := range map[string][]string{page: want, b.url + "/3d_secure/pi_none/guess": want[:1]} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
			require.NoError(t, err)
			request.Header.Set("Accept-Language", accept)
			res, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			for _, text := range texts {
				require.Contains(t, string(body), text, "%s for %s", url, accept)
			}
		}
	}
	for _, texts := range challengeTexts {
		require.ElementsMatch(t, slices.Collect(maps.Keys(challengeTexts[0])), slices.Collect(maps.Keys(texts)))
	}
}

func TestChallenge_AmountsHaveTheDigitsOfTheirCurrency(t *testing.T) {
	yen := &paymentIntent{Amount: 1500, Currency: "jpy"}
	require.Equal(t, "JPY 1,500", amountText(yen, "en"))
	require.Equal(t, "1.500 JPY", amountText(yen, "de"))
}

func TestChallenge_TheCustomerFailsOnThePage(t *testing.T) {
	b := newBench(t, Options{})
	intent, page := b.challenge(t, secureCard, "http://localhost:8080/")
	res, _ := visit(t, http.MethodPost, page, url.Values{"outcome": {"fail"}})
	require.Equal(t, http.StatusSeeOther, res.StatusCode)
	intent, err := b.intents.Get(intent.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, intent.Status)
	require.Equal(t, stripe.ErrorCodePaymentIntentAuthenticationFailure, intent.LastPaymentError.Code)
}

func TestChallenge_TheBankMayDeclineAfterwards(t *testing.T) {
	b := newBench(t, Options{})
	intent, page := b.challenge(t, "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds", "http://localhost:8080/")
	res, _ := visit(t, http.MethodPost, page, url.Values{"outcome": {"succeed"}})
	require.Equal(t, http.StatusSeeOther, res.StatusCode)
	intent, err := b.intents.Get(intent.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.DeclineCodeInsufficientFunds, intent.LastPaymentError.DeclineCode)
}

func TestChallenge_OnlyTheLastPageOfAnIntentIsKnown(t *testing.T) {
	b := newBench(t, Options{})
	intent, first := b.challenge(t, secureCard, "http://localhost:8080/")
	confirmed, err := b.intents.Confirm(intent.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: stripe.String(secureCard), ReturnURL: stripe.String("http://localhost:8080/again")})
	require.NoError(t, err)
	for _, page := range []string{first, b.url + "/3d_secure/" + intent.ID + "/guess", b.url + "/3d_secure/pi_none/guess"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			res, body := visit(t, method, page, url.Values{"outcome": {"succeed"}})
			require.Equal(t, http.StatusNotFound, res.StatusCode)
			require.Contains(t, body, "Nothing to confirm")
			require.NotContains(t, body, "<form")
		}
	}
	res, _ := visit(t, http.MethodPost, confirmed.NextAction.RedirectToURL.URL, url.Values{"outcome": {"maybe"}})
	require.Equal(t, http.StatusSeeOther, res.StatusCode, "to the page again")
	require.Contains(t, res.Header.Get("Location"), "/3d_secure/"+intent.ID)
	again, err := b.intents.Get(intent.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresAction, again.Status)
}

func TestChallenge_IsAtThePublicURLAndSurvivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.jsonl")
	b := newBench(t, Options{File: file, PublicURL: "https://bank.example/"})
	intent, page := b.challenge(t, secureCard, "http://localhost:8080/")
	require.Regexp(t, `^https://bank\.example/3d_secure/`+intent.ID+`/[A-Z0-9]{24}$`, page)
	require.NoError(t, b.server.Close())
	b = newBench(t, Options{File: file})
	res, _ := visit(t, http.MethodGet, b.url+page[len("https://bank.example"):], nil)
	require.Equal(t, http.StatusOK, res.StatusCode)
}

func TestConfirm_RefusesAReturnURLThatIsNone(t *testing.T) {
	b := newBench(t, Options{})
	for _, text := range []string{"/orders/7", "javascript:alert(1)", "http://", "tickets.example"} {
		params := authorizing("pm_card_visa", "")
		params.ReturnURL = stripe.String(text)
		_, err := b.intents.New(params)
		require.Equal(t, "return_url", stripeError(t, err).Param, text)
	}
}

func TestConfirm_WithoutReturnURLStripeJSAuthenticates(t *testing.T) {
	b := newBench(t, Options{})
	intent, err := b.intents.New(authorizing(secureCard, ""))
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentNextActionType("use_stripe_sdk"), intent.NextAction.Type)
}

func TestCommand_RefusesAPublicURLThatIsNone(t *testing.T) {
	require.ErrorContains(t, Command(t.Context(), []string{"-public-url", "localhost:12112"}), "public URL")
}
