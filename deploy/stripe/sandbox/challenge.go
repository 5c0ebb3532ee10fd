package sandbox

import (
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/text/currency"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/number"
)

// The page of 3-D Secure. A client that confirms an intent with a return_url, and a card whose bank wants 3-D Secure, gets the
// page's URL in next_action.redirect_to_url. The customer passes or fails there, and the browser goes to the return_url, with the
// query members that Stripe adds (https://docs.stripe.com/payments/3d-secure/authentication-flow).

// challenge is one authentication that a customer was sent to.
type challenge struct {
	// Token makes the page's URL known only to those who were given it.
	Token     string `json:"token"`
	ReturnURL string `json:"return_url"`
}

func (c *challenge) path(p *paymentIntent) string { return "/3d_secure/" + p.ID + "/" + c.Token }

// back is the URL that the customer's browser returns to.
func (c *challenge) back(p *paymentIntent) (*url.URL, error) {
	to, err := url.Parse(c.ReturnURL)
	if err != nil {
		return nil, err
	}
	query := to.Query()
	query.Set("payment_intent", p.ID)
	query.Set("payment_intent_client_secret", p.ClientSecret)
	to.RawQuery = query.Encode()
	return to, nil
}

// isWebURL reports whether the text is an absolute URL that a browser can be sent to.
func isWebURL(text string) bool {
	to, err := url.Parse(text)
	return err == nil && (to.Scheme == "http" || to.Scheme == "https") && to.Host != ""
}

// publicURL is where browsers reach the sandbox.
func (s *Server) publicURL(r *request) string {
	if s.opts.PublicURL != "" {
		return strings.TrimRight(s.opts.PublicURL, "/")
	}
	return "http://" + r.host
}

var (
	//go:embed challenge.html
	challengeHTML string
	//go:embed challenge.css
	challengeCSS string

	challengePage = template.Must(template.New("challenge").Option("missingkey=error").Parse(challengeHTML))
	// challengeStyle is the page's style in its Content-Security-Policy.
	challengeStyle = func() string {
		sum := sha256.Sum256([]byte(challengeCSS))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}()
)

// challengeView is what the page shows. Without Card there is nothing to authenticate.
type challengeView struct {
	Style  template.CSS
	Text   map[string]string
	Card   string
	Amount string
}

// challengeLanguages are the languages of the page; the first is for who reads none of them.
var challengeLanguages = language.NewMatcher([]language.Tag{language.English, language.German})

// challengeTexts are the texts of the page in each of its languages.
var challengeTexts = []map[string]string{{
	"language":    "en",
	"bank":        "Test bank",
	"confirm":     "Confirm your payment",
	"explanation": "The seller asks for a payment with your test card. At a real bank you would now confirm it in your app or with a code (3-D Secure).",
	"amount":      "Amount",
	"card":        "Card",
	"pass":        "Confirm payment",
	"fail":        "Refuse payment",
	"sandbox":     "This page is part of the Stripe sandbox. No money moves.",
	"nothing":     "Nothing to confirm",
	"ended":       "This link has ended or is not complete. Go back to your order: it shows what to do.",
}, {
	"language":    "de",
	"bank":        "Testbank",
	"confirm":     "Zahlung bestätigen",
	"explanation": "Der Verkäufer bittet um eine Zahlung mit deiner Testkarte. Bei einer echten Bank würdest du sie jetzt in deiner App oder mit einem Code bestätigen (3-D Secure).",
	"amount":      "Betrag",
	"card":        "Karte",
	"pass":        "Zahlung freigeben",
	"fail":        "Zahlung ablehnen",
	"sandbox":     "Diese Seite gehört zur Sandbox von Stripe. Es fließt kein Geld.",
	"nothing":     "Nichts zu bestätigen",
	"ended":       "Dieser Link ist abgelaufen oder unvollständig. Geh zurück zu deiner Bestellung: dort steht, wie es weitergeht.",
}}

// challengeText is the page's texts in the language of a request.
func challengeText(r *http.Request) map[string]string {
	_, i := language.MatchStrings(challengeLanguages, r.Header.Get("Accept-Language"))
	return challengeTexts[i]
}

// challenged is the intent of the page's URL; nil if the URL was never handed out, or another followed it. It expects the store
// to be locked.
func (s *Server) challenged(r *http.Request) *paymentIntent {
	intent := s.store.intents[r.PathValue("id")]
	if intent == nil || intent.Challenge == nil ||
		subtle.ConstantTimeCompare([]byte(intent.Challenge.Token), []byte(r.PathValue("token"))) != 1 {
		return nil
	}
	return intent
}

// showChallenge is the page. If the challenge is over, the browser goes back at once: the customer may have used its back button.
func (s *Server) showChallenge(w http.ResponseWriter, r *http.Request) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	intent := s.challenged(r)
	switch {
	case intent == nil:
		writeChallenge(w, http.StatusNotFound, challengeView{Text: challengeText(r)}, "")
	case intent.Status != requiresAction:
		returnToClient(w, r, intent)
	default:
		last4, _ := s.store.methods[*intent.PaymentMethod].Card["last4"].(string)
		text := challengeText(r)
		writeChallenge(w, http.StatusOK, challengeView{Text: text, Card: last4, Amount: amountText(intent, text["language"])}, intent.Challenge.ReturnURL)
	}
}

// answerChallenge is what the page's buttons send: outcome is "succeed" or "fail".
func (s *Server) answerChallenge(w http.ResponseWriter, httpRequest *http.Request) {
	httpRequest.Body = http.MaxBytesReader(w, httpRequest.Body, maxBodyBytes)
	outcome := httpRequest.PostFormValue("outcome")
	r := &request{id: newID("req_"), method: httpRequest.Method, path: httpRequest.URL.Path, operation: opAuthenticate, objectID: httpRequest.PathValue("id"), now: time.Now()}
	r.orderID = s.orderOf(r)
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	intent := s.challenged(httpRequest)
	if intent == nil {
		writeChallenge(w, http.StatusNotFound, challengeView{Text: challengeText(httpRequest)}, "")
		return
	}
	if outcome != passChallenge && outcome != failChallenge {
		http.Redirect(w, httpRequest, intent.Challenge.path(intent), http.StatusSeeOther)
		return
	}
	if intent.Status == requiresAction {
		s.endChallenge(r, intent, outcome)
	}
	returnToClient(w, httpRequest, intent)
}

func returnToClient(w http.ResponseWriter, r *http.Request, intent *paymentIntent) {
	to, err := intent.Challenge.back(intent)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, to.String(), http.StatusSeeOther)
}

// writeChallenge writes the page. A browser follows the form's redirect only to what form-action names, so it names the origin of
// returnURL.
func writeChallenge(w http.ResponseWriter, status int, view challengeView, returnURL string) {
	view.Style = template.CSS(challengeCSS) // its hash is in the policy
	formAction := "'self'"
	if to, err := url.Parse(returnURL); err == nil && to.Host != "" {
		formAction += " " + to.Scheme + "://" + to.Host
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src "+challengeStyle+"; form-action "+formAction+"; base-uri 'none'; frame-ancestors 'none'")
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = challengePage.Execute(w, view)
}

// amountText is the intent's amount for people who read a language: "USD 25.00", in German "25,00 USD".
func amountText(p *paymentIntent, in string) string {
	code := strings.ToUpper(p.Currency)
	digits := 2
	if unit, err := currency.ParseISO(code); err == nil {
		digits, _ = currency.Standard.Rounding(unit)
	}
	figures := message.NewPrinter(language.Make(in)).Sprint(number.Decimal(float64(p.Amount)/math.Pow10(digits), number.Scale(digits)))
	if in == "de" {
		return figures + " " + code
	}
	return code + " " + figures
}
