package sandbox

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The calls of the Stripe API that the sandbox speaks. Each runs with the store locked.

// largestAmount is Stripe's: eight digits.
const largestAmount = 99_999_999

// smallestAmounts are Stripe's minimum charges, in the minor unit
// (https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts).
func smallestAmount(currency string) int64 {
	switch currency {
	case "gbp":
		return 30
	case "jpy":
		return 50
	case "dkk":
		return 250
	case "nok", "sek":
		return 300
	case "hkd":
		return 400
	case "mxn":
		return 1000
	case "pln", "aed", "myr":
		return 200
	case "huf":
		return 17500
	case "czk":
		return 1500
	case "thb":
		return 1000
	}
	return 50 // usd, eur, cad, aud, chf, nzd, sgd, brl, inr
}

func (s *Server) createIntent(r *request) (any, *apiError) {
	p := r.params
	if err := p.only("amount", "currency", "capture_method", "confirm", "confirmation_method", "customer", "description", "metadata",
		"payment_method", "payment_method_data", "payment_method_types", "automatic_payment_methods", "receipt_email",
		"return_url", "statement_descriptor", "statement_descriptor_suffix"); err != nil {
		return nil, err
	}
	for _, required := range []string{"amount", "currency"} {
		if !p.has(required) {
			return nil, invalid(required, "parameter_missing", "Missing required param: "+required+".")
		}
	}
	amount, err := p.integer("amount", 0)
	if err != nil {
		return nil, err
	}
	currency := strings.ToLower(p.Get("currency"))
	switch {
	case len(currency) != 3:
		return nil, invalid("currency", "", "Invalid currency: "+currency+".")
	case amount < 1:
		return nil, invalid("amount", "parameter_invalid_integer", "This value must be greater than or equal to 1.")
	case amount < smallestAmount(currency):
		return nil, invalid("amount", "amount_too_small", fmt.Sprintf("Amount must be at least %d in the smallest unit of %s", smallestAmount(currency), currency))
	case amount > largestAmount:
		return nil, invalid("amount", "amount_too_large", fmt.Sprintf("Amount must be no more than %d in the smallest unit of %s", largestAmount, currency))
	}
	captureMethod := p.Get("capture_method")
	switch captureMethod {
	case "":
		captureMethod = "automatic"
	case "automatic", "automatic_async", "manual":
	default:
		return nil, invalid("capture_method", "", "Invalid capture_method: must be one of automatic, automatic_async, or manual")
	}

	id := newID("pi_")
	intent := &paymentIntent{
		ID: id, Object: "payment_intent", Amount: amount, Currency: currency, CaptureMethod: captureMethod,
		ClientSecret: id + "_secret_" + newID(""), ConfirmationMethod: "automatic", Created: r.now.Unix(),
		Customer: p.text("customer"), Description: p.text("description"), Metadata: p.nested("metadata"),
		PaymentMethodOptions: map[string]any{}, ReceiptEmail: p.text("receipt_email"),
		StatementDescriptor: p.text("statement_descriptor"), Status: requiresPaymentMethod,
	}
	// A list comes as types[]=card or types[0]=card.
	intent.PaymentMethodTypes = append(slices.Clone(p.Values["payment_method_types[]"]), slices.Sorted(maps.Values(indexed(p, "payment_method_types")))...)
	if len(intent.PaymentMethodTypes) == 0 {
		intent.PaymentMethodTypes = []string{"card"}
		intent.AutomaticPaymentMethods = &automaticMethods{Enabled: true, AllowRedirects: "always"}
		if allow := p.text("automatic_payment_methods[allow_redirects]"); allow != nil {
			intent.AutomaticPaymentMethods.AllowRedirects = *allow
		}
	}
	if !slices.Contains(intent.PaymentMethodTypes, "card") {
		return nil, invalid("payment_method_types", "", "The sandbox knows only the payment method type card.")
	}

	method, err := s.methodOf(r)
	if err != nil {
		return nil, err
	}
	if method != nil {
		intent.PaymentMethod, intent.Status = &method.ID, requiresConfirmation
	}
	s.store.putIntent(intent)
	if p.Get("confirm") == "true" {
		return s.confirm(r, intent, method)
	}
	return intent, nil
}

// indexed is what stands under name[0], name[1] and so on.
func indexed(p params, name string) map[string]string {
	inner := p.nested(name)
	delete(inner, "")
	return inner
}

func (s *Server) retrieveIntent(r *request) (any, *apiError) {
	if err := r.params.only("client_secret"); err != nil {
		return nil, err
	}
	return s.intentOf(r)
}

func (s *Server) listIntents(r *request) (any, *apiError) {
	if err := r.params.only("created", "customer", "limit", "starting_after", "ending_before"); err != nil {
		return nil, err
	}
	within, err := r.params.createdWithin()
	if err != nil {
		return nil, err
	}
	var found []*paymentIntent
	for _, id := range slices.Backward(s.store.intentIDs) {
		intent := s.store.intents[id]
		if customer := r.params.text("customer"); customer != nil && (intent.Customer == nil || *intent.Customer != *customer) {
			continue
		}
		if within(intent.Created) {
			found = append(found, intent)
		}
	}
	return page(r, found, func(p *paymentIntent) string { return p.ID })
}

func (s *Server) confirmIntent(r *request) (any, *apiError) {
	if err := r.params.only("payment_method", "payment_method_data", "return_url", "off_session", "receipt_email", "error_on_requires_action", "client_secret"); err != nil {
		return nil, err
	}
	intent, err := s.intentOf(r)
	if err != nil {
		return nil, err
	}
	// The intent's state is checked first, so that a call that is refused makes no payment method.
	if err := intent.checkConfirm(r.params.has("payment_method") || r.params.has("payment_method_data[type]"), r.params.Get("return_url")); err != nil {
		return nil, err
	}
	method, err := s.methodOf(r)
	if err != nil {
		return nil, err
	}
	if method == nil {
		method = s.store.methods[*intent.PaymentMethod]
	}
	return s.confirm(r, intent, method)
}

func (s *Server) confirm(r *request, intent *paymentIntent, method *paymentMethod) (any, *apiError) {
	returnURL := r.params.Get("return_url")
	if returnURL != "" && !isWebURL(returnURL) {
		return nil, invalid("return_url", "url_invalid", "Not a valid URL")
	}
	if err := intent.checkConfirm(method != nil, returnURL); err != nil {
		return nil, err
	}
	card := cardNumbered(s.store.numbers[method.ID])
	if card.authenticate {
		if r.params.Get("error_on_requires_action") == "true" {
			return nil, s.declined(r, intent, method, decline{"authentication_required", "authentication_required", "Your card was declined. This transaction requires authentication."})
		}
		intent.requireChallenge(method, s.publicURL(r), returnURL)
		s.store.putIntent(intent)
		s.webhooks.emit("payment_intent.requires_action", intent, r)
		return intent, nil
	}
	return s.settle(r, intent, method, card)
}

// settle asks the bank, which answers as the card is described.
func (s *Server) settle(r *request, intent *paymentIntent, method *paymentMethod, card card) (any, *apiError) {
	if card.decline != nil {
		return nil, s.declined(r, intent, method, *card.decline)
	}
	ch := newCharge(intent, method, nil, r.now)
	intent.authorize(method, ch)
	s.store.putCharge(ch)
	s.store.putIntent(intent)
	if intent.Status == requiresCapture {
		s.webhooks.emit("payment_intent.amount_capturable_updated", intent, r)
	} else {
		s.webhooks.emit("payment_intent.succeeded", intent, r)
	}
	return intent, nil
}

func (s *Server) declined(r *request, intent *paymentIntent, method *paymentMethod, reason decline) *apiError {
	ch := newCharge(intent, method, &reason, r.now)
	object := errorObject{Type: "card_error", Code: reason.Code, DeclineCode: reason.DeclineCode, Message: reason.Message, Charge: ch.ID, PaymentMethod: method}
	intent.refuse(object, ch)
	s.store.putCharge(ch)
	s.store.putIntent(intent)
	s.webhooks.emit("payment_intent.payment_failed", intent, r)
	now := *intent
	object.PaymentIntent = &now
	return &apiError{status: 402, saved: true, errorObject: object}
}

func (s *Server) captureIntent(r *request) (any, *apiError) {
	if err := r.params.only("amount_to_capture", "metadata", "statement_descriptor", "statement_descriptor_suffix"); err != nil {
		return nil, err
	}
	intent, err := s.intentOf(r)
	if err != nil {
		return nil, err
	}
	amount, err := r.params.integer("amount_to_capture", intent.AmountCapturable)
	if err != nil {
		return nil, err
	}
	if r.params.has("amount_to_capture") && amount < 1 {
		return nil, invalid("amount_to_capture", "parameter_invalid_integer", "This value must be greater than or equal to 1.")
	}
	ch := s.chargeOf(intent)
	if err := intent.capture(ch, amount); err != nil {
		return nil, err
	}
	s.store.putCharge(ch)
	s.store.putIntent(intent)
	s.webhooks.emit("payment_intent.succeeded", intent, r)
	return intent, nil
}

func (s *Server) cancelIntent(r *request) (any, *apiError) {
	if err := r.params.only("cancellation_reason"); err != nil {
		return nil, err
	}
	reason := r.params.Get("cancellation_reason")
	if reason != "" && !slices.Contains([]string{"duplicate", "fraudulent", "requested_by_customer", "abandoned"}, reason) {
		return nil, invalid("cancellation_reason", "", "Invalid cancellation_reason: must be one of duplicate, fraudulent, requested_by_customer, or abandoned")
	}
	intent, err := s.intentOf(r)
	if err != nil {
		return nil, err
	}
	ch := s.chargeOf(intent)
	held := intent.Status == requiresCapture
	if err := intent.cancel(ch, reason, r.now); err != nil {
		return nil, err
	}
	s.store.putIntent(intent)
	s.webhooks.emit("payment_intent.canceled", intent, r)
	if held { // Stripe releases held money by a refund of the charge, and sends an event for it
		s.store.putCharge(ch)
		s.webhooks.emit("charge.refunded", ch, r)
	}
	return intent, nil
}

// createMethod makes a payment method from a token: type=card, card[token]=tok_visa.
func (s *Server) createMethod(r *request) (any, *apiError) {
	if err := r.params.only("type", "card", "billing_details", "metadata"); err != nil {
		return nil, err
	}
	if r.params.Get("type") != "card" {
		return nil, invalid("type", "", "The sandbox knows only the payment method type card.")
	}
	found, err := cardBehind(r.params, "card")
	if err != nil {
		return nil, err
	}
	method := newPaymentMethod(found, r.now)
	method.Metadata = r.params.nested("metadata")
	s.store.putMethod(method, found.number)
	return method, nil
}

func (s *Server) retrieveMethod(r *request) (any, *apiError) {
	method := s.store.methods[r.objectID]
	if method == nil {
		return nil, missing(404, "PaymentMethod", r.objectID, "payment_method")
	}
	return method, nil
}

func (s *Server) createRefund(r *request) (any, *apiError) {
	if err := r.params.only("payment_intent", "charge", "amount", "metadata", "reason", "reverse_transfer", "refund_application_fee"); err != nil {
		return nil, err
	}
	var ch *charge
	switch {
	case r.params.has("payment_intent"):
		intent := s.store.intents[r.params.Get("payment_intent")]
		if intent == nil {
			return nil, missing(404, "payment_intent", r.params.Get("payment_intent"), "payment_intent")
		}
		if ch = s.chargeOf(intent); ch == nil || !ch.Paid {
			return nil, invalid("payment_intent", "", "This PaymentIntent ("+intent.ID+") does not have a successful charge to refund.")
		}
	case r.params.has("charge"):
		if ch = s.store.charges[r.params.Get("charge")]; ch == nil {
			return nil, missing(404, "charge", r.params.Get("charge"), "charge")
		}
	default:
		return nil, invalid("", "parameter_missing", "One of the following params should be provided for this request: payment_intent or charge.")
	}
	reason := r.params.Get("reason")
	if reason != "" && !slices.Contains([]string{"duplicate", "fraudulent", "requested_by_customer"}, reason) {
		return nil, invalid("reason", "", "Invalid reason: must be one of duplicate, fraudulent, or requested_by_customer")
	}
	amount, err := r.params.integer("amount", ch.AmountCaptured-(ch.AmountRefunded-ch.released()))
	if err != nil {
		return nil, err
	}
	if r.params.has("amount") && amount < 1 {
		return nil, invalid("amount", "parameter_invalid_integer", "This value must be greater than or equal to 1.")
	}
	if err := ch.giveBack(amount, s.refundable(ch)); err != nil {
		return nil, err
	}
	back := &refund{
		ID: newID("re_"), Object: "refund", Amount: amount, Charge: ch.ID, Created: r.now.Unix(), Currency: ch.Currency,
		Metadata: r.params.nested("metadata"), PaymentIntent: ch.PaymentIntent, Reason: r.params.text("reason"), Status: "succeeded",
	}
	s.store.putCharge(ch)
	s.store.putRefund(back)
	s.webhooks.emit("charge.refunded", ch, r)
	s.webhooks.emit("refund.created", back, r)
	if ch.Refunded {
		s.endInquiries(ch, r)
	}
	return back, nil
}

func (s *Server) retrieveRefund(r *request) (any, *apiError) {
	back := s.store.refunds[r.objectID]
	if back == nil {
		return nil, missing(404, "refund", r.objectID, "id")
	}
	return back, nil
}

func (s *Server) listRefunds(r *request) (any, *apiError) {
	return listOfCharges(r, s.store.refundIDs, s.store.refunds, func(b *refund) (id, intent, charge string, created int64) {
		return b.ID, b.PaymentIntent, b.Charge, b.Created
	})
}

// listOfCharges answers which objects that belong to charges fit the request's filters, newest first. ids are in the order of their
// creation.
func listOfCharges[T any](r *request, ids []string, all map[string]T, about func(T) (id, intent, charge string, created int64)) (any, *apiError) {
	if err := r.params.only("payment_intent", "charge", "created", "limit", "starting_after", "ending_before"); err != nil {
		return nil, err
	}
	within, err := r.params.createdWithin()
	if err != nil {
		return nil, err
	}
	fits := func(filter, value string) bool { return r.params.Get(filter) == "" || r.params.Get(filter) == value }
	var found []T
	for _, key := range slices.Backward(ids) {
		_, intent, charge, created := about(all[key])
		if fits("payment_intent", intent) && fits("charge", charge) && within(created) {
			found = append(found, all[key])
		}
	}
	return page(r, found, func(one T) string {
		id, _, _, _ := about(one)
		return id
	})
}

func (s *Server) listCharges(r *request) (any, *apiError) {
	if err := r.params.only("payment_intent", "created", "limit", "starting_after", "ending_before"); err != nil {
		return nil, err
	}
	within, err := r.params.createdWithin()
	if err != nil {
		return nil, err
	}
	var found []*charge
	for _, ch := range s.store.charges {
		if intent := r.params.Get("payment_intent"); (intent == "" || ch.PaymentIntent == intent) && within(ch.Created) {
			found = append(found, ch)
		}
	}
	slices.SortFunc(found, func(a, b *charge) int { return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(b.ID, a.ID)) })
	return page(r, found, func(ch *charge) string { return ch.ID })
}

func (s *Server) retrieveCharge(r *request) (any, *apiError) {
	ch := s.store.charges[r.objectID]
	if ch == nil {
		return nil, missing(404, "charge", r.objectID, "id")
	}
	return ch, nil
}

func (s *Server) intentOf(r *request) (*paymentIntent, *apiError) {
	intent := s.store.intents[r.objectID]
	if intent == nil {
		return nil, missing(404, "payment_intent", r.objectID, "intent")
	}
	secret := r.params.Get("client_secret")
	switch {
	case r.publishable && secret == "":
		return nil, invalid("client_secret", "parameter_missing", "Missing required param: client_secret.")
	case secret != "" && secret != intent.ClientSecret:
		return nil, invalid("client_secret", "payment_intent_invalid_parameter", "The client_secret provided does not match any associated PaymentIntent on this account.")
	}
	return intent, nil
}

// chargeOf is the intent's latest charge, or nil.
func (s *Server) chargeOf(intent *paymentIntent) *charge {
	if intent.LatestCharge == nil {
		return nil
	}
	return s.store.charges[*intent.LatestCharge]
}

// methodOf makes the payment method that the request names: a test card's name, an earlier payment method's
// id, or a token in payment_method_data[card][token]. Nil if it names none.
func (s *Server) methodOf(r *request) (*paymentMethod, *apiError) {
	var found card
	switch p := r.params; {
	case p.has("payment_method") && p.has("payment_method_data[type]"):
		return nil, invalid("payment_method_data", "", "You may only specify one of these parameters: payment_method, payment_method_data.")
	case p.has("payment_method"):
		name := p.Get("payment_method")
		if known := s.store.methods[name]; known != nil {
			return known, nil
		}
		var ok bool
		if found, ok = cardNamed(name, "pm_card_"); !ok {
			return nil, missing(400, "PaymentMethod", name, "payment_method")
		}
	case p.has("payment_method_data[type]"):
		if p.Get("payment_method_data[type]") != "card" {
			return nil, invalid("payment_method_data[type]", "", "The sandbox knows only the payment method type card.")
		}
		var err *apiError
		if found, err = cardBehind(p, "payment_method_data[card]"); err != nil {
			return nil, err
		}
	default:
		return nil, nil
	}
	method := newPaymentMethod(found, r.now)
	s.store.putMethod(method, found.number)
	return method, nil
}

// cardBehind finds the test card of the token in the hash that is called name.
func cardBehind(p params, name string) (card, *apiError) {
	if p.has(name + "[number]") {
		return card{}, &apiError{status: 402, errorObject: errorObject{Type: "invalid_request_error", Message: "Sending credit card numbers directly to the Stripe API is generally unsafe. We suggest you use test tokens that map to the test card you are using, see https://stripe.com/docs/testing. To enable testing raw card data APIs, see https://support.stripe.com/questions/enabling-access-to-raw-card-data-apis."}}
	}
	found, ok := cardNamed(p.Get(name+"[token]"), "tok_")
	if !ok {
		return card{}, missing(400, "token", p.Get(name+"[token]"), name+"[token]")
	}
	return found, nil
}
