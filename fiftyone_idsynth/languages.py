"""The two-letter language codes of ISO 639-1."""

from __future__ import annotations

import re

from .errors import ParameterError

_TABLE = """
aa Afar, ab Abkhazian, ae Avestan, af Afrikaans, ak Akan, am Amharic, an Aragonese, ar Arabic, as Assamese, av Avaric,
ay Aymara, az Azerbaijani, ba Bashkir, be Belarusian, bg Bulgarian, bi Bislama, bm Bambara, bn Bengali, bo Tibetan,
br Breton, bs Bosnian, ca Catalan, ce Chechen, ch Chamorro, co Corsican, cr Cree, cs Czech, cu Church Slavic,
cv Chuvash, cy Welsh, da Danish, de German, dv Divehi, dz Dzongkha, ee Ewe, el Greek, en English, eo Esperanto,
es Spanish, et Estonian, eu Basque, fa Persian, ff Fulah, fi Finnish, fj Fijian, fo Faroese, fr French,
fy Western Frisian, ga Irish, gd Scottish Gaelic, gl Galician, gn Guarani, gu Gujarati, gv Manx, ha Hausa, he Hebrew,
hi Hindi, ho Hiri Motu, hr Croatian, ht Haitian, hu Hungarian, hy Armenian, hz Herero, ia Interlingua, id Indonesian,
ie Interlingue, ig Igbo, ii Sichuan Yi, ik Inupiaq, io Ido, is Icelandic, it Italian, iu Inuktitut, ja Japanese,
jv Javanese, ka Georgian, kg Kongo, ki Kikuyu, kj Kuanyama, kk Kazakh, kl Kalaallisut, km Khmer, kn Kannada, ko Korean,
kr Kanuri, ks Kashmiri, ku Kurdish, kv Komi, kw Cornish, ky Kyrgyz, la Latin, lb Luxembourgish, lg Ganda, li Limburgish,
ln Lingala, lo Lao, lt Lithuanian, lu Luba-Katanga, lv Latvian, mg Malagasy, mh Marshallese, mi Maori, mk Macedonian,
ml Malayalam, mn Mongolian, mr Marathi, ms Malay, mt Maltese, my Burmese, na Nauru, nb Norwegian Bokmål,
nd North Ndebele, ne Nepali, ng Ndonga, nl Dutch, nn Norwegian Nynorsk, no Norwegian, nr South Ndebele, nv Navajo,
ny Chichewa, oc Occitan, oj Ojibwa, om Oromo, or Oriya, os Ossetian, pa Punjabi, pi Pali, pl Polish, ps Pashto,
pt Portuguese, qu Quechua, rm Romansh, rn Rundi, ro Romanian, ru Russian, rw Kinyarwanda, sa Sanskrit, sc Sardinian,
sd Sindhi, se Northern Sami, sg Sango, si Sinhala, sk Slovak, sl Slovenian, sm Samoan, sn Shona, so Somali, sq Albanian,
sr Serbian, ss Swati, st Southern Sotho, su Sundanese, sv Swedish, sw Swahili, ta Tamil, te Telugu, tg Tajik, th Thai,
ti Tigrinya, tk Turkmen, tl Tagalog, tn Tswana, to Tonga, tr Turkish, ts Tsonga, tt Tatar, tw Twi, ty Tahitian,
ug Uighur, uk Ukrainian, ur Urdu, uz Uzbek, ve Venda, vi Vietnamese, vo Volapük, wa Walloon, wo Wolof, xh Xhosa,
yi Yiddish, yo Yoruba, za Zhuang, zh Chinese, zu Zulu
"""

LANGUAGES = {code: name for code, _, name in (entry.partition(" ") for entry in re.split(r",\s", _TABLE.strip()))}
"""Code -> name in English of every language of ISO 639-1."""

# What people write instead of a code: own names, countries.
_ALSO = {
    "deutsch": "de", "ger": "de", "espanol": "es", "español": "es", "francais": "fr", "français": "fr", "fre": "fr",
    "italiano": "it", "portugues": "pt", "português": "pt", "nederlands": "nl", "jp": "ja", "cn": "zh",
    "cz": "cs", "dk": "da", "gr": "el", "gb": "en", "us": "en", "ua": "uk", "chi": "zh", "iw": "he",
}  # fmt: skip


def language_code(value: str, parameter: str = "languages") -> str:
    """Returns a language's two-letter code in lower case.

    Args:
        value: the code, e.g. ``"de"`` or ``"DE"``
        parameter ("languages"): the parameter that an error names

    Raises:
        ParameterError: ISO 639-1 has no such code; a near one is suggested
    """
    code = str(value).strip().lower()
    if code in LANGUAGES:
        return code
    meant = _meant(code)
    hint = f"did you mean {meant!r} ({LANGUAGES[meant]})? " if meant else ""
    raise ParameterError(
        parameter, value, f"is no language. {hint}A language is a two-letter code of ISO 639-1, e.g. 'en', 'de', 'zh'"
    )


def named(codes: list[str]) -> str:
    """Languages for people to read, e.g. ``"German (de), French (fr)"``."""
    return ", ".join(f"{LANGUAGES[code]} ({code})" for code in codes)


def _meant(value: str) -> str | None:
    names = {name.lower(): code for code, name in LANGUAGES.items()}
    first = re.split(r"[-_]", value)[0]  # "pt-BR"
    for found in (names.get(value), _ALSO.get(value), first if first in LANGUAGES else _ALSO.get(first)):
        if found:
            return found
    import difflib

    near = difflib.get_close_matches(value, [*names, *_ALSO], n=1, cutoff=0.75)
    if near:
        return names.get(near[0]) or _ALSO[near[0]]
    shortened = value[:2]  # "eng", "deu"
    return shortened if len(value) == 3 and shortened in LANGUAGES else None
