// What every page does first: the token leaves the address bar, where others could read it; the cookie has it by now.

const pageAddress = new URL(location.href);
if (pageAddress.searchParams.has("token")) {
  pageAddress.searchParams.delete("token");
  history.replaceState(null, "", pageAddress);
}
