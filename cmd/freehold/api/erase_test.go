package api_test

import (
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

// said has a prediction made for an end user, and returns its id.
func (b *bench) said(user string) string {
	b.client.T.Helper()
	var p struct{ ID string }
	b.client.Do("POST", "/v1/predictions", `{"model":"chat-1","inputs":"a word of `+user+`","user":"`+user+`"}`).Into(200, &p)
	return p.ID
}

func TestErase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ann, mail, bob := b.said("ann"), b.said("ann@example.com"), b.said("bob")
	read := func(id string) string {
		t.Helper()
		a := b.client.Do("GET", "/v1/predictions/"+id, "")
		if a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		return a.Body
	}
	for range 2 { // twice is once
		var gone struct {
			ID, Object string
			Deleted    bool
		}
		b.client.Do("DELETE", "/v1/predictions/"+ann, "").Into(200, &gone)
		if gone.ID != ann || gone.Object != "prediction" || !gone.Deleted {
			t.Errorf("%+v", gone)
		}
	}
	if got := read(ann); strings.Contains(got, "a word") || !strings.Contains(got, `"output":null`) || !strings.Contains(got, `"prompt_tokens"`) {
		t.Errorf("erased: %s", got)
	}
	if got := read(bob); !strings.Contains(got, "a word") {
		t.Errorf("another one's: %s", got)
	}
	// Also one whose name is stored as another.
	var all struct {
		Object     string
		Erased     int
		InProgress int `json:"in_progress"`
	}
	b.client.Do("DELETE", "/v1/predictions?user=ann%40example.com", "").Into(200, &all)
	if all.Object != "prediction.erasure" || all.Erased != 1 || all.InProgress != 0 || strings.Contains(read(mail), "a word") {
		t.Errorf("%+v, %s", all, read(mail))
	}
	b.client.Do("DELETE", "/v1/predictions?user=nobody", "").Into(200, &all)
	if all.Erased != 0 || !strings.Contains(read(bob), "a word") {
		t.Errorf("%+v", all)
	}

	_, token := b.Platform.Tenant("globex")
	b.client.With(token).Do("DELETE", "/v1/predictions/"+bob, "").Refused(404, "not_found", "")
	b.client.Do("DELETE", "/v1/predictions", "").Refused(400, "invalid_request", "user")
	b.client.Do("DELETE", "/v1/predictions?user=", "").Refused(400, "invalid_request", "user")
	// A list of everybody's would look like what is to be erased.
	b.client.Do("GET", "/v1/predictions?user=ann%40example.com", "").Refused(400, "invalid_request", "user")
	b.client.Do("DELETE", "/v1/predictions/nonsense", "").Refused(400, "invalid_request", "id")
	if !strings.Contains(read(bob), "a word") {
		t.Error("erased by a request that was refused")
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.said("ann")
	b.said("bob")
	var u struct {
		Object, Month string
		Data          []struct {
			Day, Model, Cost string
			Requests         int64
			PromptTokens     int64 `json:"prompt_tokens"`
		}
		Total struct {
			Requests    int64
			PromptTok   int64 `json:"prompt_tokens"`
			Completion  int64 `json:"completion_tokens"`
			TotalTokens int64 `json:"total_tokens"`
			Cost        string
			CostNano    *int64 `json:"cost_nano"`
		}
		Limit *struct{ Tokens, Used, Reserved, Remaining int64 }
	}
	b.client.Do("GET", "/v1/usage", "").Into(200, &u)
	now := time.Now().UTC()
	if u.Object != "usage" || u.Month != now.Format(catalog.MonthLayout) || len(u.Data) != 1 || u.Data[0].Model != "chat-1" || u.Data[0].Requests != 2 ||
		u.Data[0].Day != now.Format(time.DateOnly) || u.Data[0].PromptTokens == 0 || u.Data[0].Cost != u.Total.Cost || u.Total.Requests != 2 ||
		u.Total.TotalTokens != u.Total.PromptTok+u.Total.Completion || u.Total.CostNano == nil {
		t.Fatalf("%+v", u)
	}
	if l := u.Limit; l == nil || l.Tokens != 1_000_000 || l.Used != u.Total.TotalTokens || l.Reserved != 0 || l.Remaining != l.Tokens-l.Used {
		t.Errorf("limit %+v", u.Limit)
	}
	u.Data, u.Limit = nil, nil
	b.client.Do("GET", "/v1/usage?month=2020-02", "").Into(200, &u)
	if u.Month != "2020-02" || u.Data == nil || len(u.Data) != 0 || u.Limit != nil || u.Total.Cost != "0.00" {
		t.Errorf("%+v", u)
	}
	b.client.Do("GET", "/v1/usage?month=last", "").Refused(400, "invalid_request", "month")
}
