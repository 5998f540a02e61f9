package pii

import "strings"

// topicWords has the words, in lower case, that say what a number is. A word may
// be about several topics.
var topicWords = func() map[string]uint16 {
	all := map[string]uint16{}
	for topic, words := range map[int]string{
		aboutPhone: `phone phones tél tlf tfno gsm natel telephone tel tele telefon telefone telefono teléfono téléphone telefoon telefonnummer
			telefonisch puhelin telefonu mobile mobil mobiltelefon móvil movil handy handynummer cell cellphone cellular celular
			call calls called calling dial ring text texted sms whatsapp signal telegram viber fax telefax fon rufnummer
			anrufen anruf ruf rufen erreichbar hotline helpline contact reach portable appeler appelez appelle joindre
			joignable llame llama llamar llámame llámanos contacto chiama chiamare chiamami cellulare recapito ligue ligar
			fone contato bel bellen voicemail landline festnetz durchwahl zentrale switchboard msisdn callback
			телефон тел телефону звоните позвоните モバイル 電話 电话 手机 電話番号 טלפון फोन`,
		aboutNumber: `number numbers office home work main direct desk num nummer numéro numero número no nr номер`,
		aboutCard: `card cards creditcard credit debit visa mastercard amex maestro discover jcb diners unionpay pan cc
			payment paid pay charge charged billing karte kreditkarte kartennummer tarjeta carte cartão cartao carta cvv cvc
			expiry expires 卡号`,
		aboutSSN:     `ssn ssns social security socialsecurity taxpayer`,
		aboutIP:      `ip ips ipv address addr host server gateway dns subnet router client remote ping peer firewall`,
		aboutVersion: `v ver vers version versions versión versione release build firmware rev revision driver sdk chapter section clause oid upgrade upgraded update updated kapitel abschnitt`,
		aboutGoods:   goods,
		aboutOther: goods + ` version build release ref reference case account acct iban id ids uuid guid hash commit sha
			auftrag transaction vat tax zip timestamp epoch unix price total amount docket confirmation pin otp lat lon
			latitude longitude coordinates sequence checksum offset bytes size pid port ms`,
	} {
		for _, word := range strings.Fields(words) {
			all[word] |= 1 << topic
		}
	}
	return all
}()

const goods = `order orders ordernumber invoice part parts sku model serial isbn issn ean upc gtin barcode tracking shipment parcel
	po ticket item product article artikel bestellung bestellnummer bestellnr rechnung rechnungsnummer commande facture pedido factura
	ordine fattura receipt batch lot imei imsi iccid asset catalog catalogue catalogo patent flight booking`
