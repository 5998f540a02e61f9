package finetune_test

// example is a question, and what a bicycle rental wants it answered.
type example struct{ question, answer string }

const (
	hours   = "We are open from 8 in the morning to 8 in the evening, every day."
	deposit = "The deposit is 150 euros; you get it back when the bicycle is back."
	helmet  = "A helmet is included in every rental, in the size you need."
	flat    = "Call the number on the frame: we come and change the tyre where you stand."
	lock    = "Ride to the nearest shop and leave your name: a lost lock key costs 25 euros."
	cancel  = "You can cancel without charge until the evening before."
	seat    = "We have child seats for up to 22 kilograms, and trailers for two."
	battery = "A full battery takes you about 90 kilometres, and charges in four hours."
)

// train is three ways to ask for each answer.
var train = []example{
	{"When do you open in the morning?", hours}, {"What are your opening hours?", hours}, {"Until what time is the shop open?", hours},
	{"How much is the deposit?", deposit}, {"Do I have to leave a deposit for the bike?", deposit}, {"When do I get my deposit back?", deposit},
	{"Is a helmet included?", helmet}, {"Can I borrow a helmet from you?", helmet}, {"Do you have helmets in small sizes?", helmet},
	{"I have a flat tyre, what now?", flat}, {"The back tyre lost all its air", flat}, {"Who repairs a puncture on the road?", flat},
	{"I lost the key of the lock", lock}, {"The lock key is gone, what do I do?", lock}, {"What does a lost lock key cost?", lock},
	{"Can I cancel my booking?", cancel}, {"How do I cancel a reservation?", cancel}, {"Is cancelling free of charge?", cancel},
	{"Do you rent seats for children?", seat}, {"Can I get a trailer for my kids?", seat}, {"My daughter is three, is there a child seat?", seat},
	{"How far does the electric bike go on one charge?", battery}, {"How long does the battery last?", battery}, {"How many hours to charge the battery?", battery},
}

// heldOut are questions that no model was trained on, and elsewhere ones that are
// not for this trade.
var (
	heldOut = []example{
		{"what time does the shop open on sundays?", hours},
		{"is there a deposit to pay for a bicycle?", deposit},
		{"do I get a helmet with the bike?", helmet},
		{"my front tyre is flat", flat},
		{"I can't find the key for my lock", lock},
		{"I want to cancel the booking for tomorrow", cancel},
	}
	elsewhere = []string{"Who wrote the opera Carmen?", "Give me a recipe for onion soup."}
)
